//! The link to the status of a command. It authenticates itself, so a command has a status as soon as its link exists, before
//! anything is stored about it.
//!
//! Invariant: a link has the kind of the command, the time, and a keyed hash that names the command's memory. It says nothing
//! about the user, the body or the idempotency key.

use super::envelope::{CommandKind, Envelope};
use crate::privacy::pseudonym::UsernameSecret;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// The layout of a link: this byte, the kind, the time, the keyed hash of the command, and a seal of all these.
const LAYOUT: u8 = 1;
const CONTENT: usize = 1 + 1 + 8 + 32;
const SEAL: usize = 32;

/// A link that this service has made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct StatusLink {
    pub(super) kind: CommandKind,
    /// When the link was made, in milliseconds since the Unix epoch.
    pub(super) made: u64,
    /// The keyed hash that names the command's memory.
    pub(super) command: [u8; 32],
    text: String,
}

impl StatusLink {
    /// A link for a command that has a key.
    pub(super) fn of(envelope: &Envelope, secret: &UsernameSecret, now: u64) -> Option<Self> {
        let kind = envelope.command.kind();
        let command = envelope.identity(|parts| secret.command(parts))?;
        let mut bytes = vec![LAYOUT, code(kind)];
        bytes.extend(now.to_be_bytes());
        bytes.extend(command);
        let seal = secret.seal_of_link(&bytes);
        bytes.extend(seal);
        Some(Self {
            kind,
            made: now,
            command,
            text: URL_SAFE_NO_PAD.encode(bytes),
        })
    }

    /// Reads a link. `None` if this service did not make it.
    pub(super) fn parse(text: &str, secret: &UsernameSecret) -> Option<Self> {
        let bytes: [u8; CONTENT + SEAL] = URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()?;
        let (content, seal) = bytes.split_at(CONTENT);
        if !secret.is_seal_of_link(content, seal) || content[0] != LAYOUT {
            return None;
        }
        Some(Self {
            kind: kind(content[1])?,
            made: u64::from_be_bytes(content[2..10].try_into().ok()?),
            command: content[10..].try_into().ok()?,
            text: text.to_owned(),
        })
    }

    /// The text: letters, digits, `-` and `_`.
    pub(super) fn as_str(&self) -> &str {
        &self.text
    }
}

fn code(kind: CommandKind) -> u8 {
    match kind {
        CommandKind::Create => b'c',
        CommandKind::Patch => b'p',
        CommandKind::Delete => b'd',
    }
}

fn kind(code: u8) -> Option<CommandKind> {
    let all = [CommandKind::Create, CommandKind::Patch, CommandKind::Delete];
    all.into_iter().find(|kind| self::code(*kind) == code)
}

#[cfg(test)]
mod tests {
    use super::StatusLink;
    use crate::command::envelope::{Command, Envelope};
    use crate::domain::UserId;
    use crate::privacy::pseudonym::UsernameSecret;

    fn secret(digits: &str) -> UsernameSecret {
        digits.repeat(32).parse().unwrap()
    }

    fn delete(key: &str) -> Envelope {
        let delete = Envelope::new(Command::Delete(UserId::new(7)));
        delete.under_key(key.parse().ok())
    }

    #[test]
    fn a_link_is_read_as_it_was_made_and_nobody_else_can_make_one() {
        let secret = secret("01");
        let link = StatusLink::of(&delete("k"), &secret, 1_234).unwrap();
        assert_eq!(
            StatusLink::parse(link.as_str(), &secret),
            Some(link.clone())
        );
        for position in 0..link.as_str().len() {
            let mut forged = link.as_str().to_owned();
            let other = if forged.as_bytes()[position] == b'A' {
                "B"
            } else {
                "A"
            };
            forged.replace_range(position..=position, other);
            assert_eq!(StatusLink::parse(&forged, &secret), None, "{position}");
            assert_eq!(StatusLink::parse(&forged[..position], &secret), None);
        }
        let other = StatusLink::of(&delete("k"), &self::secret("02"), 1_234).unwrap();
        assert_eq!(StatusLink::parse(other.as_str(), &secret), None);
    }

    #[test]
    fn links_of_one_command_name_the_same_memory() {
        let secret = secret("01");
        let link = |key, now| StatusLink::of(&delete(key), &secret, now).unwrap();
        assert_eq!(link("k", 1).command, link("k", 2).command);
        assert_ne!(link("k", 1).command, link("l", 1).command);
        let without_key = Envelope::new(Command::Delete(UserId::new(7)));
        assert_eq!(StatusLink::of(&without_key, &secret, 1), None);
    }
}
