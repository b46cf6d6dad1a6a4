use super::super::unicode;
use super::*;
use crate::domain::Username;
use proptest::prelude::*;
use sha2::{Digest as _, Sha256};

fn folded(text: &str) -> Personal<String> {
    Username::parse(text).unwrap().folded()
}

/// The problem of the text as a username.
fn of_username(text: &str) -> Option<NameProblem> {
    Username::parse(text).err()
}

/// The problem of the text as a given and as a family name.
fn of_name(text: &str) -> Option<NameProblem> {
    let problem = GivenName::parse(text).err();
    assert_eq!(problem, FamilyName::parse(text).err(), "{text:?}");
    problem
}

/// Names of people in many languages.
const NAMES: [&str; 20] = [
    "A",
    "Ada",
    "Mary Ann",
    "O'Brien",
    "Jean-Luc",
    "van der Berg",
    "Sr. José  María",
    "Nguyễn",
    "Λάμπρος",
    "Чайковский",
    "山田",
    "أحمد",
    "יעקב",
    "प्रिया",
    // Joiners between letters: Persian, Sinhala, Bengali.
    "علی\u{200C}رضا",
    "ශ\u{DCA}\u{200D}රී",
    "র\u{200D}্যাম",
    "X Æ A-12",
    "\u{1F600}",
    "\u{2801}",
];

#[test]
fn names_of_people_are_accepted() {
    for name in NAMES {
        assert_eq!(of_name(name), None, "{name:?}");
    }
}

#[test]
fn a_given_or_family_name_has_1_to_100_characters() {
    let length = Some(NameProblem::Length { min: 1, max: 100 });
    assert_eq!(of_name(""), length);
    assert_eq!(of_name(&"é".repeat(101)), length);
    assert_eq!(of_name(&"é".repeat(100)), None);
}

#[test]
fn a_given_or_family_name_has_no_controls_and_no_separators() {
    for broken in [
        "a\u{7}b",
        "a\nb",
        "\t",
        "a\u{85}b",
        "a\u{2028}b",
        "a\u{2029}b",
    ] {
        assert_eq!(
            of_name(broken),
            Some(NameProblem::ControlCharacter),
            "{broken:?}"
        );
    }
    for spaced in [
        " ",
        "  ",
        " zed",
        "zed ",
        "z\u{A0}ed",
        "zed\u{3000}",
        "z\u{202F}ed",
        "z\u{1680}d",
    ] {
        assert_eq!(of_name(spaced), Some(NameProblem::WhiteSpace), "{spaced:?}");
    }
    for unassigned in ["a\u{378}", "\u{FDD0}b", "\u{10FFFF}"] {
        assert_eq!(
            of_name(unassigned),
            Some(NameProblem::Unassigned),
            "{unassigned:?}"
        );
    }
}

/// Characters that nobody can see: of no width, drawn as a gap, fillers, variation selectors, tags, direction marks and
/// overrides.
const SHAPELESS: [char; 22] = [
    '\u{AD}',
    '\u{34F}',
    '\u{61C}',
    '\u{115F}',
    '\u{17B4}',
    '\u{180B}',
    '\u{200B}',
    '\u{200C}',
    '\u{200D}',
    '\u{200E}',
    '\u{200F}',
    '\u{202A}',
    '\u{202E}',
    '\u{2066}',
    '\u{2069}',
    '\u{2800}',
    '\u{3164}',
    '\u{FE0F}',
    '\u{FEFF}',
    '\u{FFF9}',
    '\u{1D159}',
    '\u{E0041}',
];

#[test]
fn no_name_has_characters_that_nobody_can_see() {
    for c in SHAPELESS {
        for text in [
            format!("{c}abc"),
            format!("abc{c}"),
            format!("ab {c}c"),
            format!("1{c}23"),
        ] {
            assert_eq!(of_name(&text), Some(NameProblem::Invisible), "{text:?}");
            assert!(of_username(&text).is_some(), "{text:?}");
        }
        let inside = format!("ab{c}c");
        let joins = matches!(c, '\u{200C}' | '\u{200D}');
        assert_eq!(of_name(&inside).is_none(), joins, "{inside:?}");
        assert_eq!(of_username(&inside).is_none(), joins, "{inside:?}");
    }
    for twice in ["a\u{200D}\u{200D}bc", "👩\u{200D}💻 x"] {
        assert_eq!(of_name(twice), Some(NameProblem::Invisible), "{twice:?}");
        assert!(of_username(twice).is_some(), "{twice:?}");
    }
    assert_eq!(of_name("\u{301}"), Some(NameProblem::OnlyMarks));
}

#[test]
fn a_username_has_3_to_64_characters_after_folding() {
    let length = Some(NameProblem::Length { min: 3, max: 64 });
    // Three letters that compose to two, and three characters of which two are kept.
    for short in [
        "",
        "ab",
        "ae\u{301}",
        "a\u{200D}b",
        "\u{200B}\u{200B}\u{200B}",
    ] {
        assert_eq!(of_username(short), length, "{short:?}");
    }
    for right in ["abc", "ﬁa", "ßa", &"é".repeat(64), &"e\u{301}".repeat(64)] {
        assert_eq!(of_username(right), None, "{right:?}");
    }
    for long in [&"é".repeat(65), &"ß".repeat(33)] {
        assert_eq!(of_username(long), length, "{long:?}");
    }
}

#[test]
fn a_username_has_letters_marks_after_a_letter_decimal_digits_and_five_characters() {
    for right in [
        "ada",
        "007",
        "_ada",
        "...",
        "ada+x@example.org",
        "Ada-L_1.2",
        "jürgen",
        "ναι",
        "иван",
        "山田太",
        "ラーメン",
        "ａｄａ",
        "प्रिया",
        "๑๒๓",
        "x\u{310}x",
        "हिन्दी१",
        "ශ\u{DCA}\u{200D}රී",
    ] {
        assert_eq!(of_username(right), None, "{right:?}");
    }
    for wrong in [
        "a b",
        "a\u{A0}b",
        "ada ",
        "a/b",
        "a,b",
        "a'b",
        "ad\u{378}",
        "a\nb",
        "a\0b",
        "😀😀😀",
        "a\u{2163}\u{3007}",
        "½ada",
        "℀ada",
        "l·l",
        "ﷺ",
        "1\u{301}23",
        "_\u{301}ab",
        "\u{301}abc",
        "a.\u{301}b",
        "\u{E000}ab",
    ] {
        assert_eq!(
            of_username(wrong),
            Some(NameProblem::NotForUsernames),
            "{wrong:?}"
        );
    }
}

#[test]
fn a_username_with_right_to_left_characters_obeys_rfc_5893_and_others_do_not_need_to() {
    for right in [
        "יעקב",
        "أحمد",
        "أحمد1",
        "أحمد١",
        "יעקב.כהן",
        "יעקב_7",
        "שָׁלוֹם",
        "علی\u{200C}رضا",
        "אבג\u{5B8}",
        "ا-ب+ت",
        "ދިވެހި",
    ] {
        assert_eq!(of_username(right), None, "{right:?}");
    }
    for wrong in [
        // Both directions; a digit or sign at the beginning; a sign at the end; both kinds of digits; a symbol that folds to
        // a letter from right to left.
        "adaא",
        "אada",
        "אבgד",
        "1אבג",
        "_אבג",
        "١23",
        "אבג_",
        "אבג.",
        "אב-\u{5B8}",
        "أ1١",
        "ℵda",
    ] {
        let problem = of_username(wrong);
        let expected = [NameProblem::Direction, NameProblem::NotForUsernames];
        assert!(
            problem.is_some_and(|problem| expected.contains(&problem)),
            "{wrong:?} {problem:?}"
        );
    }
    for other in ["_ada", "ada_", "1ada", "...", "-+-"] {
        assert_eq!(of_username(other), None, "{other:?}");
    }
}

#[test]
fn every_character_of_a_username_can_be_seen() {
    let with = |c: char| Username::parse(format!("ab{c}")).ok();
    let mut accepted = 0;
    let assigned = ('\0'..=char::MAX).filter(|c| unicode::is_assigned(*c));
    for username in assigned.filter_map(with) {
        accepted += 1;
        let folded = username.folded();
        let shows = |c| !unicode::is_space(c) && !unicode::is_shapeless(c);
        assert!(folded.reveal().chars().all(shows), "{folded:?}");
    }
    assert!(accepted > 100_000, "{accepted}");
}

fn character() -> impl Strategy<Value = char> {
    prop_oneof![
        4 => any::<char>(),
        4 => prop::sample::select("aZéßéİςﬁＡ١1._-@+ אبक्ि\u{301}\u{345}\u{200C}\u{200D}\u{FE0F}\u{16EA0}".chars().collect::<Vec<_>>()),
        1 => prop::sample::select(SHAPELESS.to_vec()),
        2 => prop::char::range('\u{600}', '\u{6FF}'),
    ]
}

fn any_text() -> impl Strategy<Value = String> {
    prop::collection::vec(character(), 0..12).prop_map(|text| text.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    /// Otherwise the reservation of a name would depend on how often it was folded.
    #[test]
    fn a_folded_text_folds_to_itself(text in any_text()) {
        let folded = unicode::folded(&text);
        prop_assert_eq!(unicode::folded(&folded), folded);
    }

    #[test]
    fn the_folding_of_a_username_is_a_username_too(text in any_text()) {
        if let Ok(username) = Username::parse(text) {
            let folded = username.folded().into_revealed();
            prop_assert!((3..=64).contains(&folded.chars().count()));
            prop_assert_eq!(Username::parse(folded.clone()).unwrap().folded().into_revealed(), folded);
        }
    }

    #[test]
    fn an_accepted_name_can_be_seen(text in any_text()) {
        if let Ok(name) = GivenName::parse(text) {
            let name = name.personal().reveal();
            prop_assert!(name.chars().any(unicode::is_visible));
            prop_assert!(!name.chars().any(unicode::is_control));
            let joiner = |c| matches!(c, '\u{200C}' | '\u{200D}');
            prop_assert!(!name.chars().any(|c| unicode::is_shapeless(c) && !joiner(c)));
        }
    }
}

#[test]
fn new_pairs_of_letters_fold_to_the_same_letter() {
    assert_eq!(folded("a\u{16EA0}a"), folded("a\u{16EBB}a"));
    assert_eq!(folded("a\u{A7DD}a"), folded("a\u{277}a"));
}

/// The name of a reservation is derived from the folding of the username. The digest covers all characters, one per line,
/// as the first versions of this service folded them (with `caseless` 0.2.2, Unicode 16, and `unicode-normalization` 0.1.26,
/// Unicode 18). Where today's folding differs, [`Username::former_foldings`] has the former one.
#[test]
fn every_folding_is_as_before_except_for_48_capital_letters() {
    let all: String = ('\0'..=char::MAX).flat_map(|c| [c, '\n']).collect();
    let (before, today) = (unicode::folded_before_17(&all), unicode::folded(&all));
    let digest = Sha256::digest(&before);
    let frozen = "f98866ce012bacc4d73403a03425c87f65f84371106f6407fe4d887f60859ec7";
    assert_eq!(hex::encode(digest), frozen);
    let differs = |(before, today): &(&str, &str)| before != today;
    let moved: Vec<_> = before.lines().zip(today.lines()).filter(differs).collect();
    assert_eq!(moved.len(), 48);
    for (capital, small) in moved {
        let former = Username::as_stored(small.to_owned()).former_foldings();
        assert_eq!(former, [Personal::new(capital.to_owned())]);
        let capital = Username::as_stored(capital.to_owned());
        assert_eq!(capital.former_foldings(), former);
        assert_eq!(capital.folded_formerly(), former.first().cloned());
        let small = Username::as_stored(small.to_owned());
        assert_eq!(small.folded_formerly(), None);
    }
}

#[test]
fn a_name_with_letters_that_have_a_new_case_is_looked_up_under_all_likely_spellings() {
    let former = |text: &str| {
        let former = Username::as_stored(text.to_owned()).former_foldings();
        former
            .into_iter()
            .map(Personal::into_revealed)
            .collect::<Vec<_>>()
    };
    let (a, small_a, small_b) = ('\u{16EA0}', '\u{16EBB}', '\u{16EBC}');
    let capitalised = format!("{a}{small_b}");
    let capitals = format!("{a}\u{16EA1}");
    let odd = format!("{small_a}\u{16EA1}");
    assert_eq!(
        former(&format!("{small_a}{small_b}")),
        [&*capitals, &capitalised]
    );
    assert_eq!(former(&odd), [&*capitals, &capitalised, &odd]);
    assert!(former("ada").is_empty());
}

#[test]
fn a_stored_name_is_not_checked() {
    for text in ["", " zed ", "\u{200B}", "a\u{7}b", "\u{378}"] {
        assert_eq!(
            Username::as_stored(text.to_owned()).personal().reveal(),
            text
        );
        assert_eq!(
            GivenName::as_stored(text.to_owned()).personal().reveal(),
            text
        );
        assert_eq!(
            FamilyName::as_stored(text.to_owned()).personal().reveal(),
            text
        );
    }
}

#[test]
fn all_spellings_of_a_username_have_the_same_folding() {
    for (one, other) in [
        ("ada", "ADA"),
        ("straße", "STRASSE"),
        ("ﬁn", "fin"),
        ("ＡＤＡ", "ada"),
        ("ⓐⓓⓐ", "ada"),
        ("①②③", "123"),
        ("ｶﾞｶﾞｶﾞ", "ガガガ"),
        ("e\u{301}va", "ÉVA"),
        ("ᾳᾳ", "ΑΙΑΙ"),
        ("a\u{200C}da", "ada"),
    ] {
        assert_eq!(folded(one), folded(other), "{one} {other}");
    }
    // A stored spelling may have more.
    let stored = Username::as_stored("a\u{200B}d\u{202E}a".to_owned());
    assert_eq!(stored.folded(), folded("ada"));
}

#[test]
fn names_that_only_look_alike_are_different_names() {
    // Latin a, Cyrillic а, Greek α; small L, digit one, capital I; a letter with and without its mark.
    for (one, other) in [
        ("ada", "аdа"),
        ("ada", "αdα"),
        ("аda", "αda"),
        ("bill", "bi11"),
        ("bill", "biIl"),
        ("ada", "adá"),
        ("ı12", "i12"),
        ("007", "OO7"),
    ] {
        assert_ne!(folded(one), folded(other), "{one} {other}");
    }
}
