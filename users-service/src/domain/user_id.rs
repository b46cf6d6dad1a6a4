//! The id of a user.

use std::fmt;
use std::str::FromStr;

/// A 64-bit id. Its text is a decimal number without sign or leading zeros, so each id has exactly one spelling.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UserId(u64);

/// The text is not the canonical spelling of an id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a user id")]
pub struct NotAUserId;

impl UserId {
    /// The id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number. Later ids have higher numbers.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

impl FromStr for UserId {
    type Err = NotAUserId;

    fn from_str(text: &str) -> Result<Self, NotAUserId> {
        let number: u64 = text.parse().map_err(|_| NotAUserId)?;
        let id = Self(number);
        (id.to_string() == text).then_some(id).ok_or(NotAUserId)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
