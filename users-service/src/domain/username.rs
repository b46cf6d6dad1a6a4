//! The unique name of a user, the rules for it in commands, and the rule that decides whether two spellings are the same
//! name. See ADR 15.
//!
//! Invariant: the rules apply to commands only, as those of other names do.

use super::{NameProblem, Personal, direction, unicode};
use std::ops::RangeInclusive;

/// The length of a folded username, in characters (Unicode scalar values).
const LENGTH: RangeInclusive<usize> = 3..=64;

/// A username as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(Personal<String>);

impl Username {
    /// Parses a username from a command.
    ///
    /// # Errors
    /// If the text breaks a rule: see [`NameProblem`](super::NameProblem).
    pub fn parse(text: impl Into<String>) -> Result<Self, NameProblem> {
        let text = text.into();
        let folded = unicode::folded(&text);
        if !LENGTH.contains(&folded.chars().count()) {
            Err(NameProblem::length(&LENGTH))
        } else if unicode::hides_something(&text) {
            Err(NameProblem::Invisible)
        } else if !has_only_allowed_characters(&folded) {
            Err(NameProblem::NotForUsernames)
        } else if !direction::is_clear(&folded) {
            Err(NameProblem::Direction)
        } else {
            Ok(Self(Personal::new(text)))
        }
    }

    /// Wraps a stored username. The rules for new usernames do not apply.
    #[must_use]
    pub fn as_stored(text: String) -> Self {
        Self(Personal::new(text))
    }

    /// The name as the user wrote it.
    #[must_use]
    pub fn personal(&self) -> &Personal<String> {
        &self.0
    }

    /// The folding that all spellings of a name share: `NFKC_Casefold` (Unicode, section 3.13).
    #[must_use]
    pub fn folded(&self) -> Personal<String> {
        self.0.folded()
    }

    /// The folding of this exact spelling before Unicode 17, if it was different.
    #[must_use]
    pub fn folded_formerly(&self) -> Option<Personal<String>> {
        let formerly = unicode::folded_before_17(self.0.reveal());
        (formerly != *self.folded().reveal()).then(|| Personal::new(formerly))
    }

    /// Other foldings under which this name may have been reserved before Unicode 17: the foldings of this spelling, of
    /// the name in capitals, and of the name with one initial capital. The list is nearly always empty, because it only
    /// concerns the few letters that got a small letter later.
    #[must_use]
    pub fn former_foldings(&self) -> Vec<Personal<String>> {
        let folded = self.folded();
        if folded.reveal().is_ascii() {
            return Vec::new();
        }
        let capitals: String = folded
            .reveal()
            .chars()
            .map(unicode::capital_since_17)
            .collect();
        if capitals == *folded.reveal() {
            return Vec::new();
        }
        let mut rest = folded.reveal().chars();
        let first = rest.next().map(unicode::capital_since_17);
        let capitalised: String = first.into_iter().chain(rest).collect();
        let spelled = unicode::folded_before_17(self.0.reveal());
        let mut former = vec![spelled, capitals, capitalised];
        former.sort_unstable();
        former.dedup();
        former.retain(|former| former != folded.reveal());
        former.into_iter().map(Personal::new).collect()
    }
}

fn has_only_allowed_characters(folded: &str) -> bool {
    let mut after_letter = false;
    folded.chars().all(|c| {
        let marks_a_letter = after_letter && unicode::is_mark(c);
        after_letter = unicode::is_letter(c) || marks_a_letter;
        after_letter || unicode::is_decimal_digit(c) || "._-@+".contains(c)
    })
}
