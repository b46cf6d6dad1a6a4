//! The structure of every crate, checked by reading its sources.
//!
//! The modules of a crate form a tree. The children of one module must not use each other in a circle, and a name must
//! have one meaning.

mod circles;
mod names;
mod sources;

use sources::{Crate, workspace};
use std::collections::BTreeSet;

/// What is still to be mended, each line as it is found. A line is only ever removed.
const STILL_TO_BE_MENDED: &str = include_str!("structure/still_to_be_mended.txt");

/// Fails with what is found beyond the list, and with lines of the list that are not found any more.
fn assert_only_what_is_listed(found: &BTreeSet<String>, is_in_the_list: impl Fn(&str) -> bool) {
    let listed = STILL_TO_BE_MENDED
        .lines()
        .filter(|line| is_in_the_list(line))
        .map(str::to_owned);
    let listed: BTreeSet<String> = listed.collect();
    let new: Vec<_> = found.difference(&listed).collect();
    let mended: Vec<_> = listed.difference(found).collect();
    assert!(
        new.is_empty() && mended.is_empty(),
        "to be mended: {new:#?}\nmended, to be taken off the list: {mended:#?}"
    );
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let circles = workspace().iter().flat_map(circles::of).collect();
    assert_only_what_is_listed(&circles, |line| line.contains(" -> "));
}

#[test]
fn no_name_has_two_meanings() {
    let workspace = workspace();
    let mut twice: BTreeSet<String> = workspace.iter().flat_map(names::declared_twice).collect();
    twice.extend(names::declared_again(&workspace));
    assert_only_what_is_listed(&twice, |line| !line.contains(" -> "));
}

#[test]
fn a_planted_circle_is_found() {
    let planted = Crate::of(
        "planted",
        &[
            ("lib.rs", "mod stock; mod order; mod shelf;"),
            (
                "order.rs",
                "use crate::stock::Item; pub struct Order(Item);",
            ),
            ("stock.rs", "mod item; pub use item::Item;"),
            (
                "stock/item.rs",
                "pub struct Item; fn of(order: crate::order::Order) {}",
            ),
            ("shelf.rs", "use crate::stock::Item;"),
        ],
    );
    let found = circles::of(&planted);
    let expected =
        "planted: order -> stock -> order (order uses stock::item, stock/item uses order)";
    assert_eq!(found, [expected]);
}

#[test]
fn a_use_in_tests_makes_no_circle() {
    let sound = Crate::of(
        "sound",
        &[
            (
                "stock.rs",
                "pub struct Item; #[cfg(test)] mod tests { use crate::order::Order; }",
            ),
            (
                "order.rs",
                "use crate::stock::Item; pub struct Order(Item);",
            ),
        ],
    );
    assert!(circles::of(&sound).is_empty());
}

#[test]
fn planted_names_with_two_meanings_are_found() {
    let shared = Crate::of("shared/mail", &[("lib.rs", "pub struct Letter;")]);
    let service = Crate::of(
        "post",
        &[
            ("road.rs", "struct Van; struct Letter;"),
            ("rail.rs", "enum Van { Red }"),
            ("rail/van.rs", ""),
            ("road/van.rs", ""),
        ],
    )
    .using("mail");
    let twice: Vec<_> = names::declared_twice(&service).collect();
    let expected = [
        "post: type Van: rail, road",
        "post: file van.rs: rail/van, road/van",
    ];
    assert_eq!(twice, expected);
    let again: Vec<_> = names::declared_again(&[shared, service]).collect();
    assert_eq!(again, ["post: type Letter of shared/mail: road"]);
}
