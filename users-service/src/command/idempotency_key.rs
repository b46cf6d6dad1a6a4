//! The key with which a caller marks a command, so that repeating the command repeats its answer.

use std::fmt;
use std::str::FromStr;
use uuid::Uuid;

/// The longest key, in bytes.
pub const MAX_KEY_LENGTH: usize = 255;

/// An idempotency key: 1 to 255 visible ASCII characters or spaces. It may be personal, so it is stored only as a keyed hash.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The text cannot be a key. The error does not repeat it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an idempotency key has 1 to {MAX_KEY_LENGTH} printable ASCII characters")]
pub struct NotAKey;

impl IdempotencyKey {
    /// A key that nobody has used.
    pub(super) fn random() -> Self {
        Self(Uuid::new_v4().to_string())
    }

    /// The caller's text.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, NotAKey> {
        let is_printable = |byte| matches!(byte, b' '..=b'~');
        let is_key = (1..=MAX_KEY_LENGTH).contains(&text.len()) && text.bytes().all(is_printable);
        is_key.then(|| Self(text.to_owned())).ok_or(NotAKey)
    }
}

impl fmt::Debug for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdempotencyKey(…)")
    }
}
