//! A command of our own on its way through the queue: with its caller, its key and its condition, and sealed.

use super::COMMANDS;
use super::command_text::CommandText;
use super::not_a_command::{NotACommand, Unacceptable};
use crate::command::envelope::Envelope;
use crate::command::version::{Precondition, Version};
use crate::privacy::cipher::MessageKey;
use crate::stored_event::Caller;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use uuid::Uuid;
use zeroize::Zeroizing;

/// The purpose of the key that seals commands.
pub const SEALED_COMMANDS: &str = "sealed commands";
/// The media type of a sealed command.
pub(super) const SEALED: &str = "application/vnd.users-service.sealed-command";
/// The greatest sealed command, in bytes.
pub(super) const SEALED_LIMIT: usize = 64 * 1024;

#[derive(Serialize, Deserialize)]
struct Content {
    /// When the command was sealed, in milliseconds since the Unix epoch.
    sent: u64,
    caller: Caller,
    correlation: Uuid,
    key: String,
    /// The versions that `If-Match` allows.
    #[serde(skip_serializing_if = "Option::is_none")]
    versions: Option<Vec<String>>,
    text: CommandText,
}

/// Where a message with this id is sealed for.
fn place(id: &str) -> [&str; 3] {
    [COMMANDS, SEALED, id]
}

/// Seals a command that has a key, for a message with this id. `None` if it has no key, or is too large.
pub(super) fn seal(
    envelope: &Envelope,
    id: &str,
    (key, now): (&MessageKey, u64),
) -> Option<Vec<u8>> {
    let versions = match &envelope.precondition {
        Precondition::None => None,
        Precondition::OneOf(versions) => {
            let texts = versions.iter().map(|version| version.as_str().to_owned());
            Some(texts.collect())
        }
    };
    let content = Content {
        sent: now,
        caller: envelope.caller.clone(),
        correlation: envelope.correlation,
        key: envelope.key.as_ref()?.as_str().to_owned(),
        versions,
        text: CommandText::of(&envelope.command)?,
    };
    let content = Zeroizing::new(serde_json::to_vec(&content).ok()?);
    let sealed = key.seal(&place(id), &content);
    (sealed.len() <= SEALED_LIMIT).then_some(sealed)
}

/// Opens the command of a message with this id. A command that is older than `kept_for` is refused, because it may have been
/// executed and forgotten.
pub(super) fn open(
    sealed: &[u8],
    id: &str,
    (key, now, kept_for): (&MessageKey, u64, Duration),
) -> Result<Envelope, Unacceptable> {
    let content = key.open(&place(id), sealed);
    let content = content.map_err(|_| NotACommand::DoesNotOpen)?;
    let content: Content =
        serde_json::from_slice(&content).map_err(|_| NotACommand::DoesNotOpen)?;
    if u128::from(now.saturating_sub(content.sent)) >= kept_for.as_millis() {
        return Err(NotACommand::TooOld.into());
    }
    let precondition = content.versions.map_or(Precondition::None, |versions| {
        let versions = versions.iter().map(|version| Version::from_text(version));
        Precondition::OneOf(versions.collect())
    });
    let key = content.key.parse().map_err(NotACommand::MessageId)?;
    let (command, chosen_id) = content.text.command()?;
    Ok(Envelope::new(command)
        .of_caller(content.caller)
        .in_conversation(content.correlation)
        .under_key(Some(key))
        .provided(precondition)
        .under_id(chosen_id))
}
