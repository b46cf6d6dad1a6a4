//! The name that no two users share, and when two spellings are one name.

use super::name::{InvalidName, NameField, NameProblem, parse};
use crate::privacy::Personal;
use caseless::Caseless as _;
use unicode_normalization::UnicodeNormalization as _;

/// A username as the user writes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Username(Personal<String>);

impl Username {
    /// Takes a username over, if it can be one.
    ///
    /// # Errors
    /// When the text is empty (also: made of invisible characters only), too long, or has control characters.
    pub fn parse(text: impl Into<String>) -> Result<Self, InvalidName> {
        let username = parse(NameField::Username, text.into()).map(Self)?;
        if username.folded().reveal().trim().is_empty() {
            return Err(InvalidName {
                field: NameField::Username,
                problem: NameProblem::Empty,
            });
        }
        Ok(username)
    }

    /// The name as it was given.
    #[must_use]
    pub fn personal(&self) -> &Personal<String> {
        &self.0
    }

    /// What all spellings of one name have in common: `NFKC_Casefold` (Unicode, section 3.13).
    #[must_use]
    pub fn folded(&self) -> Personal<String> {
        let visible = |c: &char| !is_default_ignorable(*c);
        let folded = self.0.reveal().chars().nfd().default_case_fold();
        let again = folded.nfkd().filter(visible).default_case_fold();
        Personal::new(again.nfkc().filter(visible).collect())
    }
}

/// Unicode's `Default_Ignorable_Code_Point`: invisible, so two names that differ in these alone look the same.
fn is_default_ignorable(c: char) -> bool {
    matches!(c,
        '\u{AD}' | '\u{34F}' | '\u{61C}' | '\u{115F}'..='\u{1160}' | '\u{17B4}'..='\u{17B5}'
        | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{3164}' | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFA0}'
        | '\u{FFF0}'..='\u{FFF8}' | '\u{1BCA0}'..='\u{1BCA3}' | '\u{1D173}'..='\u{1D17A}'
        | '\u{E0000}'..='\u{E0FFF}')
}
