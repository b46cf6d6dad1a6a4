//! Filters of the log. Pure.

use fancy_regex::{Regex, RegexBuilder};
use regex_syntax::hir::Look;
use regex_syntax::hir::literal::{Extractor, Literal, Seq};

const LONGEST_PATTERN: usize = 4096;
const MOST_PREFIXES: usize = 1024;
/// The maximum number of backtracking steps of a match. An expression that needs more is refused when it is used.
const BACKTRACK_LIMIT: usize = 100_000;
/// The maximum size of a compiled expression, in bytes.
const LARGEST_PATTERN: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    StreamName,
    EventType,
}

#[derive(Debug)]
pub(crate) struct Filter {
    subject: Subject,
    /// Every match begins with one of these.
    prefixes: Vec<String>,
    regex: Option<Box<Regex>>,
}

/// Why a filter cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFilter {
    #[error("the filter's regular expression is not valid, or needs too much memory")]
    Regex,
    #[error("the filter's regular expression is longer than {LONGEST_PATTERN} bytes")]
    RegexTooLong,
    #[error("the filter has more than {MOST_PREFIXES} prefixes")]
    TooManyPrefixes,
    #[error("the filter's regular expression takes too long to match")]
    TooExpensive,
}

impl Filter {
    /// A filter by the regular expression if there is one, and by any of the prefixes otherwise.
    pub(crate) fn new(
        subject: Subject,
        regex: &str,
        prefixes: Vec<String>,
    ) -> Result<Self, InvalidFilter> {
        if regex.len() > LONGEST_PATTERN {
            return Err(InvalidFilter::RegexTooLong);
        }
        if prefixes.len() > MOST_PREFIXES {
            return Err(InvalidFilter::TooManyPrefixes);
        }
        if regex.is_empty() {
            return Ok(Self {
                subject,
                prefixes,
                regex: None,
            });
        }
        let built = RegexBuilder::new(regex)
            .backtrack_limit(BACKTRACK_LIMIT)
            .delegate_size_limit(LARGEST_PATTERN)
            .delegate_dfa_size_limit(LARGEST_PATTERN)
            .build();
        Ok(Self {
            subject,
            prefixes: literal_prefixes(regex),
            regex: Some(Box::new(built.map_err(|_| InvalidFilter::Regex)?)),
        })
    }

    /// The subject, and prefixes such that every match begins with one of them.
    pub(crate) fn prefixes(&self) -> (Subject, &[String]) {
        (self.subject, &self.prefixes)
    }

    /// Whether matching may take long.
    pub(crate) fn is_costly(&self) -> bool {
        self.regex.is_some()
    }

    pub(crate) fn matches(&self, stream: &str, event_type: &str) -> Result<bool, InvalidFilter> {
        let text = match self.subject {
            Subject::StreamName => stream,
            Subject::EventType => event_type,
        };
        let may_match = self.prefixes.iter().any(|prefix| text.starts_with(prefix));
        if !may_match || is_state_of_group_of_all(stream) {
            return Ok(false);
        }
        let Some(regex) = &self.regex else {
            return Ok(true);
        };
        regex
            .is_match(text)
            .map_err(|_| InvalidFilter::TooExpensive)
    }
}

/// Whether a stream holds state of a persistent subscription to `$all`. As in the real server, filters and such
/// subscriptions do not show these streams: each checkpoint would lead to the next one for ever.
pub(crate) fn is_state_of_group_of_all(stream: &str) -> bool {
    stream.starts_with("$persistentsubscription-$all::")
        && ["-checkpoint", "-parked"]
            .iter()
            .any(|end| stream.ends_with(end))
}

/// Whether a stream holds state of a persistent subscription to `$all`, or the metadata of such a stream.
pub(crate) fn belongs_to_group_of_all(stream: &str) -> bool {
    is_state_of_group_of_all(stream.strip_prefix("$$").unwrap_or(stream))
}

/// Literal texts such that every match begins with one of them. An empty text if the expression does not say.
fn literal_prefixes(regex: &str) -> Vec<String> {
    // Look-around and backreferences, which only `fancy_regex` knows, are an error here.
    let parsed = regex_syntax::parse(regex).ok();
    let at_start =
        parsed.filter(|parsed| parsed.properties().look_set_prefix().contains(Look::Start));
    let literals = at_start.map(|parsed| Extractor::new().extract(&parsed));
    let literals = literals.as_ref().and_then(Seq::literals);
    let texts = literals.and_then(|literals| {
        let text = |literal: &Literal| String::from_utf8(literal.as_bytes().to_vec()).ok();
        literals.iter().map(text).collect::<Option<Vec<_>>>()
    });
    texts.unwrap_or_else(|| vec![String::new()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn types(regex: &str) -> Filter {
        Filter::new(Subject::EventType, regex, vec![]).unwrap()
    }

    #[test]
    fn any_of_the_prefixes_matches() {
        let filter = Filter::new(Subject::StreamName, "", vec!["a-".into(), "b-".into()]).unwrap();
        assert_eq!(filter.matches("b-1", "x"), Ok(true));
        assert_eq!(filter.matches("c-1", "a-"), Ok(false));
    }

    #[test]
    fn the_state_of_groups_of_all_is_not_shown() {
        let filter = Filter::new(Subject::StreamName, "", vec!["$persistent".into()]).unwrap();
        for (stream, is_shown) in [
            ("$persistentsubscription-$all::g-checkpoint", false),
            ("$persistentsubscription-$all::other-parked", false),
            ("$persistentsubscription-s::g-checkpoint", true),
            ("$persistentSubscriptionConfig", true),
        ] {
            assert_eq!(filter.matches(stream, "x"), Ok(is_shown), "{stream}");
        }
    }

    #[test]
    fn a_negative_lookahead_excludes_system_events() {
        let filter = types(r"^(?!\$).*");
        assert_eq!(filter.matches("s", "happened"), Ok(true));
        assert_eq!(filter.matches("s", "$metadata"), Ok(false));
    }

    #[test]
    fn every_match_begins_with_a_literal_prefix_of_the_expression() {
        for (regex, prefixes) in [
            (r"^cat-.*$", &["cat-"][..]),
            (r"^\$ce-é", &["$ce-é"]),
            (r"^(cat|dog)-", &["cat-", "dog-"]),
            (r"^ab+c", &["ab"]),
            (r"^ab?c", &["abc", "ac"]),
            (r"^ab{0,1}", &["ab", "a"]),
            (r"^a(?i)b", &["aB", "ab"]),
            (r"^a\wb", &["a"]),
            (r"^[ab]", &["a", "b"]),
            (r"^ab|c", &[""]),
            (r"ab", &[""]),
            (r"^(?!\$)ab", &[""]),
            (r"^", &[""]),
        ] {
            assert_eq!(types(regex).prefixes, prefixes, "{regex}");
        }
    }

    proptest::proptest! {
        #[test]
        fn literal_prefixes_do_not_change_what_an_expression_matches(
            regex in r"\^?([ab$]|\\\$|\.|a\*|b\?|b\+|a\{0,1\}|\(a\)|\[ab\]|\|){0,5}",
            text in "[ab$]{0,4}",
        ) {
            if !regex.is_empty() && let Ok(plain) = Regex::new(&regex) {
                let matches = types(&regex).matches("", &text);
                proptest::prop_assert_eq!(matches, Ok(plain.is_match(&text).unwrap()));
            }
        }
    }

    #[test]
    fn a_hostile_expression_is_refused_instead_of_hanging() {
        let filter = types(r"^(a|a)*(?=b)(a|b|ab)*c$");
        let text = "a".repeat(5_000);
        assert_eq!(filter.matches("s", &text), Err(InvalidFilter::TooExpensive));
        let nested = Filter::new(Subject::EventType, "((((a{100}){100}){100}){100})", vec![]);
        assert_eq!(nested.err(), Some(InvalidFilter::Regex));
    }

    #[test]
    fn an_invalid_expression_is_refused() {
        for regex in ["(", "[", "(?<n>", "*"] {
            let refused = Filter::new(Subject::EventType, regex, vec![]);
            assert_eq!(refused.err(), Some(InvalidFilter::Regex), "{regex}");
        }
    }
}
