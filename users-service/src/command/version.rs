//! The version of a user, as callers see it, and the conditions that callers put on it.

use crate::opaque_text;

/// The version of a user: an opaque text that changes whenever the user changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Version(String);

/// A condition on the version of an existing user. A user who does not exist has no version, and the command is refused anyway.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Precondition {
    /// No condition.
    #[default]
    None,
    /// The user has one of these versions.
    OneOf(Vec<Version>),
}

impl Version {
    /// The version of a user whose last change has this revision.
    #[must_use]
    pub fn of(revision: u64) -> Self {
        Self(opaque_text::encode(&[revision]))
    }

    /// A version as a caller sent it. It may be any text.
    #[must_use]
    pub fn from_text(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text: letters, digits, `-` and `_`.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The version as `ETag` and `If-Match` have it, in quotation marks.
    #[must_use]
    pub fn entity_tag(&self) -> String {
        format!("\"{}\"", self.0)
    }
}

impl Precondition {
    /// Whether a user whose last change has this revision meets the condition.
    #[must_use]
    pub fn allows(&self, revision: u64) -> bool {
        match self {
            Self::None => true,
            Self::OneOf(versions) => versions.contains(&Version::of(revision)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_differs_from_every_other_one_and_does_not_show_the_revision() {
        let versions: Vec<_> = (0..1_000).map(Version::of).collect();
        for (index, version) in versions.iter().enumerate() {
            assert!(!versions[index + 1..].contains(version));
            assert_eq!(version.as_str().len(), 23);
        }
        assert_eq!(Version::of(7).as_str(), "AQAAAAAAAAAAAAAAAAAAAAc");
    }

    #[test]
    fn a_condition_is_met_by_one_of_its_versions_only() {
        let one = |version| Precondition::OneOf(vec![Version::from_text("x"), version]);
        assert!(Precondition::None.allows(3));
        assert!(one(Version::of(3)).allows(3));
        assert!(!one(Version::of(2)).allows(3));
        assert!(!Precondition::OneOf(Vec::new()).allows(3));
    }
}
