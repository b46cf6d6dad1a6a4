//! Prints 10,000 usernames and their reservations. `tests/fixtures/frozen-names.tsv` was made with it, once:
//!
//! `cargo run -p users-service --example frozen_names > users-service/tests/fixtures/frozen-names.tsv`
//!
//! Never replace the names in that file, because the tests compare today's reservations with it. The names are the same in
//! every run with the same Unicode data: the random numbers come from a fixed seed.

#![expect(clippy::print_stdout, reason = "the output is the list")]

use icu_properties::CodePointMapData;
use icu_properties::props::{GeneralCategory, GeneralCategoryGroup as Group, Script};
use std::collections::{BTreeMap, BTreeSet};
use users_service::domain::Username;
use users_service::privacy::pseudonym::UsernameSecret;

const NAMES: usize = 10_000;
const NAMES_PER_SCRIPT: usize = 45;
/// How many random texts are tried to find one name.
const ATTEMPTS: usize = 1_000;

/// A linear congruential generator (Knuth's MMIX).
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        let next = self.0.wrapping_mul(6_364_136_223_846_793_005);
        self.0 = next.wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).map_or(0, |random| random % bound)
    }

    fn one_of(&mut self, characters: &[char]) -> Option<char> {
        let index = self.below(characters.len().max(1));
        characters.get(index).copied()
    }
}

/// The characters of one script that occur in usernames.
#[derive(Default)]
struct Alphabet {
    letters: Vec<char>,
    marks: Vec<char>,
    digits: Vec<char>,
}

fn alphabets() -> BTreeMap<Script, Alphabet> {
    let (scripts, categories) = (
        CodePointMapData::<Script>::new(),
        CodePointMapData::<GeneralCategory>::new(),
    );
    let mut alphabets: BTreeMap<Script, Alphabet> = BTreeMap::new();
    for c in '\0'..=char::MAX {
        let category = categories.get(c);
        let alphabet = alphabets.entry(scripts.get(c)).or_default();
        if Group::Letter.contains(category) {
            alphabet.letters.push(c);
        } else if Group::Mark.contains(category) {
            alphabet.marks.push(c);
        } else if category == GeneralCategory::DecimalNumber {
            alphabet.digits.push(c);
        }
    }
    alphabets.retain(|_, alphabet| !alphabet.letters.is_empty());
    alphabets
}

fn text(alphabet: &Alphabet, random: &mut Random) -> String {
    let mut text = String::new();
    for _ in 0..3 + random.below(10) {
        match random.below(12) {
            0 => text.extend(random.one_of(&alphabet.digits)),
            1 => text.push(['.', '_', '-', '@', '+', '7'][random.below(6)]),
            _ => {
                text.extend(random.one_of(&alphabet.letters));
                if random.below(4) == 0 {
                    text.extend(random.one_of(&alphabet.marks));
                }
            }
        }
    }
    text
}

/// A random username in this script. `None` if the script has too few characters.
fn name(alphabet: &Alphabet, random: &mut Random) -> Option<String> {
    let texts = std::iter::repeat_with(|| text(alphabet, random));
    let mut texts = texts.take(ATTEMPTS);
    texts.find(|text| Username::parse(text.clone()).is_ok())
}

/// Names of characters that fold to others, beginning with those that once folded to something else.
fn folding_names() -> impl Iterator<Item = String> {
    let thrice = |c: char| Username::as_stored(String::from_iter([c; 3]));
    let all = ('\0'..=char::MAX).map(thrice);
    let folds = |name: &Username| name.folded() != *name.personal();
    let visible = |name: &Username| !name.folded().reveal().trim().is_empty();
    let (moved, others): (Vec<_>, Vec<_>) = all
        .filter(|name| folds(name) && visible(name))
        .partition(|name| name.folded_formerly().is_some());
    let names = moved.into_iter().chain(others);
    names.map(|name| name.personal().reveal().clone())
}

fn main() -> anyhow::Result<()> {
    let secret: UsernameSecret = "01".repeat(32).parse()?;
    let mut random = Random(2026);
    let mut names = BTreeSet::new();
    for alphabet in alphabets().values() {
        names.extend((0..NAMES_PER_SCRIPT).filter_map(|_| name(alphabet, &mut random)));
    }
    let mut folding = folding_names();
    while let (true, Some(name)) = (names.len() < NAMES, folding.next()) {
        names.insert(name);
    }
    for name in names {
        let reservation = secret.reservation(&Username::as_stored(name.clone()));
        println!("{name}\t{reservation}");
    }
    Ok(())
}
