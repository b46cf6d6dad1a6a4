//! A figure with its limit. Pure.

use std::fmt;

/// A figure and its limit.
#[derive(Debug)]
pub(crate) struct Aim {
    what: String,
    figure: f64,
    limit: String,
    reached: bool,
}

impl Aim {
    pub(crate) fn at_least(what: impl Into<String>, figure: f64, limit: f64) -> Self {
        Self {
            what: what.into(),
            figure,
            limit: format!(">= {limit}"),
            reached: figure >= limit,
        }
    }

    pub(crate) fn below(what: impl Into<String>, figure: f64, limit: f64) -> Self {
        Self {
            what: what.into(),
            figure,
            limit: format!("< {limit}"),
            reached: figure < limit,
        }
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = if self.reached { "reached" } else { "MISSED" };
        let Self {
            what,
            figure,
            limit,
            ..
        } = self;
        write!(f, "{what:<50} {figure:>7.2}  (aim {limit}: {verdict})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_aim_says_whether_it_is_reached() {
        assert!(Aim::at_least("a", 1.5, 1.5).to_string().contains("reached"));
        assert!(Aim::at_least("a", 1.4, 1.5).to_string().contains("MISSED"));
        assert!(Aim::below("a", 0.9, 1.0).to_string().contains("reached"));
        assert!(Aim::below("a", 1.0, 1.0).to_string().contains("MISSED"));
    }
}
