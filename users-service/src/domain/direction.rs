//! The order of characters on the screen, if some of them are written from right to left.

use icu_properties::CodePointMapData;
use icu_properties::props::BidiClass;

/// Whether the text has no right-to-left characters, or satisfies the Bidi rule (RFC 5893, section 2). Such a text looks
/// like no other text, and keeps its order among other texts.
pub(super) fn is_clear(text: &str) -> bool {
    let classes = CodePointMapData::<BidiClass>::new();
    let classes: Vec<BidiClass> = text.chars().map(|c| classes.get(c)).collect();
    !classes.iter().any(|class| RIGHT_TO_LEFT.contains(class)) || satisfies_bidi_rule(&classes)
}

const RIGHT_TO_LEFT: [BidiClass; 3] = [
    BidiClass::RightToLeft,
    BidiClass::ArabicLetter,
    BidiClass::ArabicNumber,
];

/// The classes of a text that begins from right to left.
const ALLOWED: [BidiClass; 10] = [
    BidiClass::RightToLeft,
    BidiClass::ArabicLetter,
    BidiClass::ArabicNumber,
    BidiClass::EuropeanNumber,
    BidiClass::EuropeanSeparator,
    BidiClass::CommonSeparator,
    BidiClass::EuropeanTerminator,
    BidiClass::OtherNeutral,
    BidiClass::BoundaryNeutral,
    BidiClass::NonspacingMark,
];

/// The rule for a text with right-to-left characters. The conditions 5 and 6, for a text that begins from left to right,
/// are not here, because condition 5 allows no right-to-left characters.
fn satisfies_bidi_rule(classes: &[BidiClass]) -> bool {
    let has = |class| classes.contains(&class);
    let is_mark = |class: &&BidiClass| **class == BidiClass::NonspacingMark;
    let last = classes.iter().rev().find(|class| !is_mark(class));
    let begins = [BidiClass::RightToLeft, BidiClass::ArabicLetter];
    let ends = [
        BidiClass::RightToLeft,
        BidiClass::ArabicLetter,
        BidiClass::EuropeanNumber,
        BidiClass::ArabicNumber,
    ];
    classes.first().is_some_and(|first| begins.contains(first))
        && classes.iter().all(|class| ALLOWED.contains(class))
        && last.is_some_and(|last| ends.contains(last))
        && !(has(BidiClass::EuropeanNumber) && has(BidiClass::ArabicNumber))
}
