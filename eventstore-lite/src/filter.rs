//! Which events of the log a reader wants. Pure.

use fancy_regex::{Regex, RegexBuilder};

const LONGEST_PATTERN: usize = 4096;
const MOST_PREFIXES: usize = 1024;
/// How often a match may try again; a pattern that needs more is refused while it is used.
const BACKTRACK_LIMIT: usize = 100_000;
/// The most bytes that a compiled pattern takes.
const LARGEST_PATTERN: usize = 1024 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    StreamName,
    EventType,
}

#[derive(Debug)]
pub(crate) struct Filter {
    subject: Subject,
    pattern: Pattern,
}

#[derive(Debug)]
enum Pattern {
    Regex(Box<Regex>),
    Prefixes(Vec<String>),
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
    /// A regular expression if there is one, else any of the prefixes.
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
        let pattern = if regex.is_empty() {
            Pattern::Prefixes(prefixes)
        } else {
            let built = RegexBuilder::new(regex)
                .backtrack_limit(BACKTRACK_LIMIT)
                .delegate_size_limit(LARGEST_PATTERN)
                .delegate_dfa_size_limit(LARGEST_PATTERN)
                .build();
            Pattern::Regex(Box::new(built.map_err(|_| InvalidFilter::Regex)?))
        };
        Ok(Self { subject, pattern })
    }

    /// What is looked at, and the prefixes of which any matches; `None` if there is a regular expression instead.
    pub(crate) fn prefixes(&self) -> Option<(Subject, &[String])> {
        match &self.pattern {
            Pattern::Regex(_) => None,
            Pattern::Prefixes(prefixes) => Some((self.subject, prefixes)),
        }
    }

    /// Whether a match may take long.
    pub(crate) fn is_costly(&self) -> bool {
        matches!(self.pattern, Pattern::Regex(_))
    }

    pub(crate) fn matches(&self, stream: &str, event_type: &str) -> Result<bool, InvalidFilter> {
        let text = match self.subject {
            Subject::StreamName => stream,
            Subject::EventType => event_type,
        };
        match &self.pattern {
            Pattern::Regex(regex) => regex
                .is_match(text)
                .map_err(|_| InvalidFilter::TooExpensive),
            Pattern::Prefixes(prefixes) => {
                Ok(prefixes.iter().any(|prefix| text.starts_with(prefix)))
            }
        }
    }
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
    fn a_negative_lookahead_excludes_system_events() {
        let filter = types(r"^(?!\$).*");
        assert_eq!(filter.matches("s", "happened"), Ok(true));
        assert_eq!(filter.matches("s", "$metadata"), Ok(false));
    }

    #[test]
    fn a_hostile_expression_is_refused_and_does_not_hang() {
        let filter = types(r"^(a|a)*(?=b)(a|b|ab)*c$");
        let text = "a".repeat(5_000);
        assert_eq!(filter.matches("s", &text), Err(InvalidFilter::TooExpensive));
        let nested = Filter::new(Subject::EventType, "((((a{100}){100}){100}){100})", vec![]);
        assert_eq!(nested.err(), Some(InvalidFilter::Regex));
    }

    #[test]
    fn what_is_no_expression_is_refused() {
        for regex in ["(", "[", "(?<n>", "*"] {
            let refused = Filter::new(Subject::EventType, regex, vec![]);
            assert_eq!(refused.err(), Some(InvalidFilter::Regex), "{regex}");
        }
    }
}
