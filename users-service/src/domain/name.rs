//! Names of people, and the rules for names in commands: a name is visible, not too long, and has no control characters,
//! no outer white space, and no characters that Unicode has not assigned.
//!
//! Invariant: the rules apply to commands only. A stored name is read as it is, because the rules may have been different
//! when it was stored.

use super::{Personal, unicode};
use std::fmt;

/// The longest name, in characters (Unicode scalar values).
pub const MAX_NAME_CHARS: usize = 100;

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
    pub fn as_str(self) -> &'static str {
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

/// The rule that a name breaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// The name is empty or invisible.
    #[error("must not be empty or invisible")]
    Empty,
    /// The name has more than [`MAX_NAME_CHARS`] characters.
    #[error("must not be longer than {MAX_NAME_CHARS} characters")]
    TooLong,
    /// The name has line breaks, tabs or the like.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// The name begins or ends with white space, which nobody sees.
    #[error("must not begin or end with white space")]
    OuterWhiteSpace,
    /// The username has white space.
    #[error("must not contain white space")]
    WhiteSpace,
    /// The name has unassigned characters. Nobody knows yet what they look like or how they fold.
    #[error("must not contain characters that Unicode 18 does not have")]
    Unassigned,
}

/// An invalid name. The error does not repeat the value, because it is personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidName {
    /// The invalid field.
    pub field: NameField,
    /// The rule that it breaks.
    pub problem: NameProblem,
}

pub(super) fn parse(field: NameField, text: String) -> Result<Personal<String>, InvalidName> {
    let invalid = |problem| InvalidName { field, problem };
    if text.chars().count() > MAX_NAME_CHARS {
        return Err(invalid(NameProblem::TooLong));
    }
    if text.chars().any(unicode::is_control) {
        return Err(invalid(NameProblem::ControlCharacter));
    }
    if !text.chars().all(unicode::is_assigned) {
        return Err(invalid(NameProblem::Unassigned));
    }
    if !text.chars().any(unicode::is_visible) {
        return Err(invalid(NameProblem::Empty));
    }
    if field == NameField::Username && text.chars().any(unicode::is_blank) {
        return Err(invalid(NameProblem::WhiteSpace));
    }
    let mut shown = text.chars().filter(|c| !unicode::is_ignorable(*c));
    let outer = [shown.next(), shown.next_back()];
    if outer.into_iter().flatten().any(unicode::is_blank) {
        return Err(invalid(NameProblem::OuterWhiteSpace));
    }
    Ok(Personal::new(text))
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
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                parse(NameField::$name, text.into()).map(Self)
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
