//! The terms that a user is found by, and the filters that look for them.

use crate::domain::{NameField, Personal};
use crate::integration::message::ClearNames;
use crate::privacy::search_secret::SearchSecret;
use std::ops::RangeInclusive;

/// The lengths of the beginnings of usernames that users are found by, in characters of the folded name.
pub const PREFIX_LENGTH: RangeInclusive<usize> = 3..=12;

/// The kind of a term for a beginning of the username. Terms for whole names have the name of their field.
const PREFIX: &str = "prefix";

/// A condition on one name. Its text is folded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NameFilter {
    /// The whole username.
    Username(Personal<String>),
    /// The beginning of the username, as long as [`PREFIX_LENGTH`] allows.
    Prefix(Personal<String>),
    /// The whole family name.
    FamilyName(Personal<String>),
}

impl NameFilter {
    /// The term that the wanted users have. Few others have it too.
    pub(super) fn term(&self, secret: &SearchSecret) -> i64 {
        match self {
            Self::Username(name) => secret.term(NameField::Username.as_str(), name),
            Self::Prefix(beginning) => secret.term(PREFIX, beginning),
            Self::FamilyName(name) => secret.term(NameField::FamilyName.as_str(), name),
        }
    }

    /// Whether a user with these names is wanted.
    pub(super) fn admits(&self, names: &ClearNames) -> bool {
        let folded = |field: NameField| names.get(&field).map(Personal::folded);
        match self {
            Self::Username(wanted) => folded(NameField::Username).as_ref() == Some(wanted),
            Self::FamilyName(wanted) => folded(NameField::FamilyName).as_ref() == Some(wanted),
            Self::Prefix(wanted) => folded(NameField::Username)
                .is_some_and(|name| name.reveal().starts_with(wanted.reveal().as_str())),
        }
    }
}

/// The terms of one name of a user.
pub(super) fn terms(secret: &SearchSecret, field: NameField, name: &Personal<String>) -> Vec<i64> {
    match field {
        NameField::GivenName => Vec::new(),
        NameField::FamilyName => vec![secret.term(field.as_str(), &name.folded())],
        NameField::Username => {
            let name = name.folded();
            let beginnings = beginnings(name.reveal());
            let beginnings = beginnings
                .map(|beginning| secret.term(PREFIX, &Personal::new(beginning.to_owned())));
            let whole = secret.term(field.as_str(), &name);
            beginnings.chain([whole]).collect()
        }
    }
}

fn beginnings(name: &str) -> impl Iterator<Item = &str> {
    let ends = name.char_indices().map(|(at, _)| at).chain([name.len()]);
    let ends = ends.skip(*PREFIX_LENGTH.start());
    let lengths = PREFIX_LENGTH.end() - PREFIX_LENGTH.start() + 1;
    ends.take(lengths).filter_map(|end| name.get(..end))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_the_beginnings_of_three_to_twelve_characters() {
        let all = |name| beginnings(name).collect::<Vec<_>>();
        assert_eq!(all("ad"), Vec::<&str>::new());
        assert_eq!(all("ada"), ["ada"]);
        assert_eq!(all("édaé"), ["éda", "édaé"]);
        let long = all("abcdefghijklmnop");
        assert_eq!(long.len(), 10);
        assert_eq!((long[0], long[9]), ("abc", "abcdefghijkl"));
    }

    #[test]
    fn a_user_has_the_term_of_each_filter_that_admits_it() {
        let secret = SearchSecret::of(&"0a".repeat(32).parse().unwrap());
        let text = |text: &str| Personal::new(text.to_owned());
        let names: ClearNames = [
            (NameField::Username, text("AdaLovelace")),
            (NameField::GivenName, text("Ada")),
            (NameField::FamilyName, text("Straße")),
        ]
        .into();
        let terms: Vec<i64> = names
            .iter()
            .flat_map(|(&field, name)| terms(&secret, field, name))
            .collect();
        let filters = [
            (NameFilter::Username(text("adalovelace")), true),
            (NameFilter::Username(text("ada")), false),
            (NameFilter::Prefix(text("ada")), true),
            (NameFilter::Prefix(text("adalovelace")), true),
            (NameFilter::Prefix(text("lov")), false),
            (NameFilter::FamilyName(text("strasse")), true),
            (NameFilter::FamilyName(text("ada")), false),
        ];
        for (filter, admitted) in filters {
            assert_eq!(filter.admits(&names), admitted, "{filter:?}");
            assert_eq!(terms.contains(&filter.term(&secret)), admitted);
        }
    }
}
