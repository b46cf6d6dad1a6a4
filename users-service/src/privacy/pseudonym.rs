//! The names of streams that are derived from a caller's text: keyed hashes, so that no stream name contains personal data.

use super::cipher::{NotHexadecimal, from_hex, hmac};
use crate::domain::{Personal, ReservationName, Username};
use hmac::{Hmac, Mac as _};
use sha2::Sha256;
use std::fmt;
use std::str::FromStr;
use zeroize::ZeroizeOnDrop;

/// The prefix of every reservation's name.
pub const RESERVATION_PREFIX: &str = "username-";
/// The prefix of every command's stream.
pub const COMMAND_PREFIX: &str = "command-";

/// The text that makes the secret for the names of commands' streams. No username folds to it.
const COMMAND_STREAMS: &str = "\0command streams";
/// The text that makes the secret for the seals of links.
const LINKS: &str = "\0links";
/// The text that makes the secret for the hashes of messages.
const MESSAGES: &str = "\0messages";

/// The text that makes the secret for the pseudonyms of callers. No username folds to it.
const CALLERS: &str = "\0callers";

/// The secret for the names of reservations, written as 64 hexadecimal digits. Without it nobody can find out the
/// reservation of a username.
#[derive(Clone, ZeroizeOnDrop)]
pub struct UsernameSecret([u8; 32]);

impl UsernameSecret {
    /// The reservation that all spellings of the username share: `username-`, followed by an HMAC-SHA256 in 64 hexadecimal
    /// digits.
    #[must_use]
    pub fn reservation(&self, username: &Username) -> ReservationName {
        self.of_folded(&username.folded())
    }

    /// The reservation that this spelling had before Unicode 17, if it was different.
    #[must_use]
    pub fn former_reservation(&self, username: &Username) -> Option<ReservationName> {
        let folded = username.folded_formerly()?;
        Some(self.of_folded(&folded))
    }

    /// Other reservations that may hold the username since before Unicode 17: see [`Username::former_foldings`].
    #[must_use]
    pub fn former_reservations(&self, username: &Username) -> Vec<ReservationName> {
        let folded = username.former_foldings();
        folded.iter().map(|folded| self.of_folded(folded)).collect()
    }

    /// The stream of the command with these parts (caller, method, path and key): `command-`, followed by an HMAC-SHA256 in 64
    /// hexadecimal digits.
    #[must_use]
    pub fn command_stream(&self, parts: [&str; 4]) -> String {
        Self::stream_of_command(self.command(parts))
    }

    /// The keyed hash of the command with these parts.
    #[must_use]
    pub fn command(&self, parts: [&str; 4]) -> [u8; 32] {
        let mac = self.keyed_hash(COMMAND_STREAMS, &parts.map(str::as_bytes));
        mac.finalize().into_bytes().into()
    }

    /// The stream of the command with this keyed hash.
    #[must_use]
    pub fn stream_of_command(command: [u8; 32]) -> String {
        format!("{COMMAND_PREFIX}{}", hex::encode(command))
    }

    /// A seal that shows that the content of a link comes from this service.
    #[must_use]
    pub fn seal_of_link(&self, content: &[u8]) -> [u8; 32] {
        let mac = self.keyed_hash(LINKS, &[content]);
        mac.finalize().into_bytes().into()
    }

    /// Whether this is the seal of the content of a link.
    #[must_use]
    pub fn is_seal_of_link(&self, content: &[u8], seal: &[u8]) -> bool {
        let mac = self.keyed_hash(LINKS, &[content]);
        mac.verify_slice(seal).is_ok()
    }

    /// The keyed hash of a message: of its id and its body, which may both be personal.
    #[must_use]
    pub fn message(&self, id: &str, body: &[u8]) -> [u8; 32] {
        let mac = self.keyed_hash(MESSAGES, &[id.as_bytes(), body]);
        mac.finalize().into_bytes().into()
    }

    fn keyed_hash(&self, purpose: &str, parts: &[&[u8]]) -> Hmac<Sha256> {
        let mut mac = hmac(&self.mac(purpose));
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        mac
    }

    /// The pseudonym of a caller: an HMAC-SHA256 of the subject of the access token, in 64 hexadecimal digits.
    #[must_use]
    pub fn caller(&self, subject: &str) -> String {
        let mac = hmac(&self.mac(CALLERS)).chain_update(subject.as_bytes());
        hex::encode(mac.finalize().into_bytes())
    }

    fn of_folded(&self, folded: &Personal<String>) -> ReservationName {
        let mac = self.mac(folded.reveal());
        ReservationName::new(&format!("{RESERVATION_PREFIX}{}", hex::encode(mac)))
    }

    fn mac(&self, text: &str) -> [u8; 32] {
        hmac(&self.0)
            .chain_update(text.as_bytes())
            .finalize()
            .into_bytes()
            .into()
    }
}

impl FromStr for UsernameSecret {
    type Err = NotHexadecimal;

    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        from_hex(text).map(Self)
    }
}

impl fmt::Debug for UsernameSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UsernameSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::UsernameSecret;
    use crate::domain::Username;

    fn reservation(secret: &str, username: &str) -> String {
        let secret: UsernameSecret = secret.repeat(32).parse().unwrap();
        let name = secret.reservation(&Username::parse(username).unwrap());
        name.to_string()
    }

    #[test]
    fn spellings_of_one_username_share_a_reservation() {
        assert_eq!(reservation("01", "Ada"), reservation("01", "ADA"));
        assert_ne!(reservation("01", "ada"), reservation("01", "eda"));
    }

    #[test]
    fn another_secret_gives_other_reservations() {
        assert_ne!(reservation("01", "ada"), reservation("02", "ada"));
    }

    #[test]
    fn the_stream_of_a_command_depends_on_every_part_and_on_the_secret() {
        let stream = |secret: &str, parts| {
            let secret: UsernameSecret = secret.repeat(32).parse().unwrap();
            secret.command_stream(parts)
        };
        let parts = ["anonymous", "PATCH", "/1", "key"];
        let streams = [
            stream("01", parts),
            stream("02", parts),
            stream("01", ["other", "PATCH", "/1", "key"]),
            stream("01", ["anonymous", "DELETE", "/1", "key"]),
            stream("01", ["anonymous", "PATCH", "/2", "key"]),
            stream("01", ["anonymous", "PATCH", "/1", "yek"]),
            stream("01", ["anonymous", "PATCH", "/", "1key"]),
        ];
        let distinct: std::collections::HashSet<_> = streams.iter().collect();
        assert_eq!(distinct.len(), streams.len());
        assert_eq!(stream("01", parts), streams[0]);
        assert!(streams[0].starts_with("command-") && streams[0].len() == 8 + 64);
    }

    #[test]
    fn the_seal_of_a_link_depends_on_its_content_and_on_the_secret() {
        let secret = |digits: &str| digits.repeat(32).parse::<UsernameSecret>().unwrap();
        let seal = secret("01").seal_of_link(b"abc");
        assert!(secret("01").is_seal_of_link(b"abc", &seal));
        assert!(!secret("01").is_seal_of_link(b"abd", &seal));
        assert!(!secret("01").is_seal_of_link(b"abc", &seal[1..]));
        assert!(!secret("02").is_seal_of_link(b"abc", &seal));
        assert_ne!(secret("01").message("", b"abc"), seal);
        assert_ne!(
            secret("01").message("a", b"bc"),
            secret("01").message("ab", b"c")
        );
    }

    #[test]
    fn the_name_of_a_reservation_never_changes() {
        // printf ada | openssl dgst -sha256 -mac HMAC -macopt hexkey:0101…01
        assert_eq!(
            reservation("01", "ada"),
            include_str!("../../tests/fixtures/reservation-of-ada").trim()
        );
    }
}
