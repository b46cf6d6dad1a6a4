//! Properties of characters, all from one version of Unicode: what they are, whether they are visible, and which texts are
//! different spellings of the same text.
//!
//! Invariant: the folding of a text never changes, because the names of reservations are derived from it. A new version of
//! Unicode may fold more letters. Version 17 did so after names had been reserved; [`folded_before_17`] finds those.

use icu_casemap::CaseMapper;
use icu_normalizer::{ComposingNormalizer, DecomposingNormalizer};
use icu_properties::props::{
    DefaultIgnorableCodePoint, GeneralCategory, GeneralCategoryGroup as Group, WhiteSpace,
};
use icu_properties::{CodePointMapData, CodePointSetData};

/// Categories whose characters are visible by themselves. Marks are not among them, because they need a base letter.
const DRAWN: Group = Group::Letter
    .union(Group::Number)
    .union(Group::Punctuation)
    .union(Group::Symbol)
    .union(Group::PrivateUse);

/// Line breaks, tabs and the like.
const CONTROL: Group = Group::Control
    .union(Group::LineSeparator)
    .union(Group::ParagraphSeparator);

fn category(c: char) -> GeneralCategory {
    CodePointMapData::<GeneralCategory>::new().get(c)
}

/// Whether this version of Unicode has the character.
pub(super) fn is_assigned(c: char) -> bool {
    category(c) != GeneralCategory::Unassigned
}

/// Whether the character breaks lines or controls a device.
pub(super) fn is_control(c: char) -> bool {
    CONTROL.contains(category(c))
}

/// Whether the character is a letter of any script.
pub(super) fn is_letter(c: char) -> bool {
    Group::Letter.contains(category(c))
}

/// Whether the character is written on or around the character before it.
pub(super) fn is_mark(c: char) -> bool {
    Group::Mark.contains(category(c))
}

/// Whether the character is a decimal digit of any script.
pub(super) fn is_decimal_digit(c: char) -> bool {
    category(c) == GeneralCategory::DecimalNumber
}

/// Whether the character is white space.
pub(super) fn is_space(c: char) -> bool {
    CodePointSetData::new::<WhiteSpace>().contains(c)
}

/// Whether the character has no width. Two texts that differ only in such characters look the same.
pub(super) fn is_ignorable(c: char) -> bool {
    CodePointSetData::new::<DefaultIgnorableCodePoint>().contains(c)
}

/// Whether the character has no shape: it is ignorable, it formats its surroundings, or it is one of four symbols and
/// letters that are drawn as a gap.
pub(super) fn is_shapeless(c: char) -> bool {
    let drawn_as_nothing = matches!(c, '\u{2800}' | '\u{13441}' | '\u{13442}' | '\u{1D159}');
    drawn_as_nothing || is_ignorable(c) || category(c) == GeneralCategory::Format
}

/// Whether the character is visible by itself.
pub(super) fn is_visible(c: char) -> bool {
    DRAWN.contains(category(c)) && !is_space(c) && !is_shapeless(c)
}

/// Whether the text has a shapeless character that is not a joiner between letters. Some scripts need joiners inside words.
pub(super) fn hides_something(text: &str) -> bool {
    let in_word = |c: Option<char>| c.is_some_and(|c| is_letter(c) || is_mark(c));
    let mut before = None;
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        let is_joiner = matches!(c, '\u{200C}' | '\u{200D}');
        let joins = is_joiner && in_word(before) && in_word(rest.clone().next());
        if is_shapeless(c) && !joins {
            return true;
        }
        before = Some(c);
    }
    false
}

/// The folding that all spellings of a text share: `NFKC_Casefold` (Unicode, section 3.13).
pub(super) fn folded(text: &str) -> String {
    fold(text, |_| true)
}

/// The folding before Unicode 17, when the letters of [`is_capital_since_17`] had no small letters.
pub(super) fn folded_before_17(text: &str) -> String {
    fold(text, |c| !is_capital_since_17(c))
}

fn fold(text: &str, has_small_letter: impl Fn(char) -> bool) -> String {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    fold_any(text, has_small_letter)
}

/// The folding of a text that may have any characters.
fn fold_any(text: &str, has_small_letter: impl Fn(char) -> bool) -> String {
    let small = |text: &str| -> String {
        let mut small = String::with_capacity(text.len());
        for c in text.chars() {
            if has_small_letter(c) {
                let mut utf8 = [0; 4];
                small += &CaseMapper::new().fold_string(c.encode_utf8(&mut utf8));
            } else {
                small.push(c);
            }
        }
        small
    };
    let kept = |c: &char| !is_ignorable(*c);
    let folded = small(&DecomposingNormalizer::new_nfd().normalize(text));
    let decomposed = DecomposingNormalizer::new_nfkd().normalize(&folded);
    let again = small(&decomposed.chars().filter(kept).collect::<String>());
    let composed = ComposingNormalizer::new_nfkc().normalize(&again);
    composed.chars().filter(kept).collect()
}

/// Whether this is a capital letter whose small letter was added by Unicode 17 or 18. Only these letters fold differently
/// than before.
pub(super) fn is_capital_since_17(c: char) -> bool {
    matches!(c,
        '\u{A7CE}' | '\u{A7D2}' | '\u{A7D4}' | '\u{A7DD}' | '\u{A7E2}' | '\u{AB6C}'..='\u{AB6D}'
        | '\u{16EA0}'..='\u{16EB8}' | '\u{1DF40}' | '\u{1DF48}' | '\u{1DF4A}' | '\u{1DF4D}' | '\u{1DF51}'
        | '\u{1DF68}' | '\u{1DF6A}' | '\u{1DF6C}' | '\u{1DF6E}' | '\u{1DF72}' | '\u{1DF74}' | '\u{1DF76}'
        | '\u{1DF78}' | '\u{1DF7A}' | '\u{1DF7C}' | '\u{1DF7E}')
}

/// The capital letter of [`is_capital_since_17`] for its small letter. Other characters are returned unchanged.
pub(super) fn capital_since_17(c: char) -> char {
    let capital = CaseMapper::new().simple_uppercase(c);
    if is_capital_since_17(capital) {
        capital
    } else {
        c
    }
}

#[cfg(test)]
mod tests {
    use super::{fold_any, folded};

    #[test]
    fn ascii_folds_as_any_other_text_does() {
        let ascii: String = ('\0'..='\x7F').collect();
        let pairs = ascii
            .chars()
            .flat_map(|a| ascii.chars().map(move |b| format!("{a}{b}")));
        for text in pairs.chain([ascii.clone()]) {
            assert_eq!(folded(&text), fold_any(&text, |_| true), "{text:?}");
        }
    }
}
