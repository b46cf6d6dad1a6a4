//! Names of people, and the rules for those that a command asks for: never empty or invisible, never long, never with
//! control characters, outer white space, or characters that Unicode does not have.
//!
//! Invariant: rules hold for commands only. What is stored is read as it is, since rules may have been others then.

use super::{Personal, unicode};
use std::fmt;

/// The longest name, in characters (Unicode scalar values).
pub const MAX_NAME_CHARS: usize = 100;

/// Which of a user's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NameField {
    /// The name that no two users share.
    Username,
    /// The first name.
    GivenName,
    /// The last name.
    FamilyName,
}

impl NameField {
    /// All names that a user has.
    pub const ALL: [Self; 3] = [Self::Username, Self::GivenName, Self::FamilyName];

    /// The field's name in commands, events and answers.
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

/// What is wrong with a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameProblem {
    /// Nothing, or nothing that can be seen.
    #[error("must not be empty or invisible")]
    Empty,
    /// More than [`MAX_NAME_CHARS`].
    #[error("must not be longer than {MAX_NAME_CHARS} characters")]
    TooLong,
    /// Line breaks, tabs and the like.
    #[error("must not contain control characters")]
    ControlCharacter,
    /// A gap before the first character or after the last one, which nobody sees.
    #[error("must not begin or end with white space")]
    OuterWhiteSpace,
    /// A gap anywhere in a username.
    #[error("must not contain white space")]
    WhiteSpace,
    /// Characters that are none yet: nobody knows what they look like, or how they fold.
    #[error("must not contain characters that Unicode 18 does not have")]
    Unassigned,
}

/// A name that cannot be one. Does not repeat the value: it is personal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}")]
pub struct InvalidName {
    /// Which name.
    pub field: NameField,
    /// What is wrong with it.
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
            /// Takes a name over, if a command may ask for it.
            ///
            /// # Errors
            /// When the text is no name: see [`NameProblem`].
            pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
                parse(NameField::$name, text.into()).map(Self)
            }

            /// A name that is stored: it is what it is, whatever the rules for new ones say by now.
            #[must_use]
            pub fn as_stored(text: String) -> Self {
                Self(Personal::new(text))
            }

            /// The name as it was given.
            #[must_use]
            pub fn personal(&self) -> &Personal<String> {
                &self.0
            }
        }
    };
}

name! {
    /// The first name, as the user writes it.
    GivenName
}
name! {
    /// The last name, as the user writes it.
    FamilyName
}
