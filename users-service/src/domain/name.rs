//! Names of people, and the rules for them in commands: everything in a name can be seen, except joiners between letters.
//!
//! Invariant: the rules apply to commands only. A stored name is read as it is, because the rules may have been different
//! when it was stored.

#[cfg(test)]
mod tests;

use super::{Personal, unicode};
use std::fmt;
use std::ops::RangeInclusive;

/// The length of given and family names, in characters (Unicode scalar values).
const LENGTH: RangeInclusive<usize> = 1..=100;

/// One of the names of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameField {
    /// The unique name.
    Username,
    /// The given name.
    GivenName,
    /// The family name.
    FamilyName,
}

impl NameField {
    /// All names of a user.
    pub const ALL: [Self; 3] = [Self::Username, Self::GivenName, Self::FamilyName];

    /// The name of the field in commands, events and answers.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Username => "username",
            Self::GivenName => "given_name",
            Self::FamilyName => "family_name",
        }
    }
}

impl fmt::Display for NameField {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The rule that a name breaks. The text completes the sentence "the name …". It does not repeat the name, because that is
/// personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The name is too short or too long. A username is counted after folding.
    #[error("must have {min} to {max} characters")]
    Length {
        /// The smallest number of characters.
        min: usize,
        /// The greatest number of characters.
        max: usize,
    },
    /// The name has line breaks, tabs or the like.
    #[error("must not contain control characters or line breaks")]
    ControlCharacter,
    /// The name has unassigned characters. Nobody knows yet what they look like.
    #[error("must not contain characters that Unicode 18 does not have")]
    Unassigned,
    /// The name has characters that have no shape of their own, or that only change the direction of the text.
    #[error("must not contain characters that nobody can see, except joiners between letters")]
    Invisible,
    /// The name has white space other than plain spaces between words.
    #[error("must not contain white space, except plain spaces between words")]
    WhiteSpace,
    /// The name has only marks, which need a letter.
    #[error("must contain a visible character")]
    OnlyMarks,
    /// The username has a character of another class.
    #[error(
        "must contain only letters, marks after a letter, decimal digits and the characters . _ - @ +"
    )]
    NotForUsernames,
    /// The username has right-to-left characters, and breaks the rule for them.
    #[error("must follow RFC 5893, section 2, because it contains right-to-left characters")]
    Direction,
}

impl NameProblem {
    /// The problem of a text whose number of characters is not in this range.
    pub(super) fn length(range: &RangeInclusive<usize>) -> Self {
        let (min, max) = (*range.start(), *range.end());
        Self::Length { min, max }
    }
}

fn parse(text: String) -> Result<Personal<String>, NameProblem> {
    let has = |property: fn(char) -> bool| text.chars().any(property);
    if !LENGTH.contains(&text.chars().count()) {
        Err(NameProblem::length(&LENGTH))
    } else if has(unicode::is_control) {
        Err(NameProblem::ControlCharacter)
    } else if has(|c| !unicode::is_assigned(c)) {
        Err(NameProblem::Unassigned)
    } else if has(|c| unicode::is_space(c) && c != ' ') || text.trim_matches(' ') != text {
        Err(NameProblem::WhiteSpace)
    } else if unicode::hides_something(&text) {
        Err(NameProblem::Invisible)
    } else if !has(unicode::is_visible) {
        Err(NameProblem::OnlyMarks)
    } else {
        Ok(Personal::new(text))
    }
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub struct $name(Personal<String>);

        impl $name {
            /// Parses a name from a command.
            ///
            /// # Errors
            /// If the text breaks a rule: see [`NameProblem`].
            pub fn parse(text: impl Into<String>) -> Result<Self, NameProblem> {
                parse(text.into()).map(Self)
            }

            /// Wraps a stored name. The rules for new names do not apply.
            #[must_use]
            pub fn as_stored(text: String) -> Self {
                Self(Personal::new(text))
            }

            /// The name as the user wrote it.
            #[must_use]
            pub fn personal(&self) -> &Personal<String> {
                &self.0
            }
        }
    };
}

name! {
    /// The given name as the user writes it.
    GivenName
}
name! {
    /// The family name as the user writes it.
    FamilyName
}
