//! A user's profile, and changes to it.

use super::{FamilyName, GivenName, Personal, Username};

/// All names of a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    /// The unique name.
    pub username: Username,
    /// The given name.
    pub given_name: GivenName,
    /// The family name.
    pub family_name: FamilyName,
}

/// The fields of a [`Profile`] that change. The other fields stay as they are.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The new username.
    pub username: Option<Username>,
    /// The new given name.
    pub given_name: Option<GivenName>,
    /// The new family name.
    pub family_name: Option<FamilyName>,
}

impl Profile {
    /// The names, in the order of [`NameField::ALL`](super::NameField::ALL).
    #[must_use]
    pub fn names(&self) -> [&Personal<String>; 3] {
        [
            self.username.personal(),
            self.given_name.personal(),
            self.family_name.personal(),
        ]
    }

    /// The profile after the changes.
    #[must_use]
    pub fn merge(self, changes: Changes) -> Self {
        Self {
            username: changes.username.unwrap_or(self.username),
            given_name: changes.given_name.unwrap_or(self.given_name),
            family_name: changes.family_name.unwrap_or(self.family_name),
        }
    }
}

impl Changes {
    /// The new names, in the order of [`NameField::ALL`](super::NameField::ALL).
    #[must_use]
    pub fn names(&self) -> [Option<&Personal<String>>; 3] {
        [
            self.username.as_ref().map(Username::personal),
            self.given_name.as_ref().map(GivenName::personal),
            self.family_name.as_ref().map(FamilyName::personal),
        ]
    }

    /// Only the fields that differ from the profile.
    pub(super) fn different_from(self, profile: &Profile) -> Self {
        Self {
            username: self.username.filter(|new| *new != profile.username),
            given_name: self.given_name.filter(|new| *new != profile.given_name),
            family_name: self.family_name.filter(|new| *new != profile.family_name),
        }
    }
}
