//! The name that no two users share, and when two spellings are one name.

use super::name::{InvalidName, NameField, parse};
use super::{Personal, unicode};

/// A username as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(Personal<String>);

impl Username {
    /// Takes a username over, if a command may ask for it.
    ///
    /// # Errors
    /// When the text is no username: see [`NameProblem`](super::NameProblem).
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        parse(NameField::Username, text.into()).map(Self)
    }

    /// A username that is stored: it is what it is, whatever the rules for new ones say by now.
    #[must_use]
    pub fn as_stored(text: String) -> Self {
        Self(Personal::new(text))
    }

    /// The name as it was given.
    #[must_use]
    pub fn personal(&self) -> &Personal<String> {
        &self.0
    }

    /// What all spellings of one name have in common: `NFKC_Casefold` (Unicode, section 3.13).
    #[must_use]
    pub fn folded(&self) -> Personal<String> {
        Personal::new(unicode::folded(self.0.reveal()))
    }

    /// What this very spelling folded to before Unicode 17, if that was something else.
    #[must_use]
    pub fn folded_formerly(&self) -> Option<Personal<String>> {
        let formerly = unicode::folded_before_17(self.0.reveal());
        (formerly != *self.folded().reveal()).then(|| Personal::new(formerly))
    }

    /// Other foldings that this name may be reserved under since then: those of this spelling, of all capitals, and of
    /// one capital at the beginning. Nearly every name has none, because none of its letters was given another case.
    #[must_use]
    pub fn former_foldings(&self) -> Vec<Personal<String>> {
        let folded = self.folded();
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
