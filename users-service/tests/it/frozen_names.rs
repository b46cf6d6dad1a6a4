//! 10,000 names in all scripts and their reservations, as they were when the list was made. An update of the Unicode data
//! must move none: a moved name could be given to a second user. `examples/frozen_names.rs` made the list.

use std::collections::BTreeSet;
use std::path::Path;
use users_service::domain::{ReservationName, Username};
use users_service::privacy::pseudonym::UsernameSecret;

fn secret() -> UsernameSecret {
    "01".repeat(32).parse().unwrap()
}

/// Names and their reservations.
fn frozen() -> Vec<(Username, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let text = std::fs::read_to_string(folder.join("frozen-names.tsv")).unwrap();
    let lines = text.lines().map(|line| line.split_once('\t').unwrap());
    let name = |name: &str| Username::as_stored(name.to_owned());
    lines
        .map(|(text, reservation)| (name(text), reservation.to_owned()))
        .collect()
}

/// The names that have another reservation now.
fn moved(
    list: &[(Username, String)],
    reservation: impl Fn(&Username) -> ReservationName,
) -> Vec<&str> {
    let moved = list
        .iter()
        .filter(|(name, frozen)| reservation(name).as_str() != frozen);
    moved
        .map(|(name, _)| name.personal().reveal().as_str())
        .collect()
}

#[test]
fn ten_thousand_names_have_the_reservations_that_they_always_had() {
    let list = frozen();
    let names: BTreeSet<_> = list
        .iter()
        .map(|(name, _)| name.personal().reveal())
        .collect();
    assert_eq!(names.len(), 10_000);
    let secret = secret();
    assert_eq!(moved(&list, |name| secret.reservation(name)), [""; 0]);
}

#[test]
fn a_moved_name_is_found() {
    let (mut list, secret) = (frozen(), secret());
    // A change of one reservation.
    list[1_234].1 = list[1_235].1.clone();
    let planted = list[1_234].0.personal().reveal().as_str();
    assert_eq!(moved(&list, |name| secret.reservation(name)), [planted]);
    // The data of Unicode 16, which folded 48 letters to themselves.
    let of_16 = |name: &Username| {
        let former = secret.former_reservation(name);
        former.unwrap_or_else(|| secret.reservation(name))
    };
    let list = frozen();
    let moved = moved(&list, of_16);
    let letters: BTreeSet<char> = moved.iter().flat_map(|name| name.chars()).collect();
    let differs = |c: &char| {
        Username::as_stored(c.to_string())
            .folded_formerly()
            .is_some()
    };
    assert_eq!(letters.into_iter().filter(differs).count(), 48);
}
