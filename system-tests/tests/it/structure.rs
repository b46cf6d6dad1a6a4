//! The structure of every crate, checked by reading its sources.
//!
//! The modules of a crate form a tree. The children of one module must not use each other in a circle, and a name must
//! have one meaning. Every queue has a bound.

mod circles;
mod names;
mod queues;
mod sources;

use sources::{Crate, workspace};
use std::collections::BTreeSet;

#[test]
fn no_modules_use_each_other_in_a_circle() {
    let circles: Vec<_> = workspace().iter().flat_map(circles::of).collect();
    assert!(circles.is_empty(), "{circles:#?}");
}

#[test]
fn no_name_has_two_meanings() {
    let workspace = workspace();
    let mut twice: BTreeSet<String> = workspace.iter().flat_map(names::declared_twice).collect();
    twice.extend(names::declared_again(&workspace));
    assert!(twice.is_empty(), "{twice:#?}");
}

#[test]
fn every_channel_has_a_bound() {
    let unbounded: Vec<_> = workspace().iter().flat_map(Crate::unbounded).collect();
    assert!(unbounded.is_empty(), "{unbounded:#?}");
}

#[test]
fn planted_channels_without_a_bound_are_found() {
    let planted = Crate::of(
        "planted",
        &[
            (
                "lib.rs",
                "/// Not unbounded.\nfn a() { mpsc::channel(7); oneshot::channel(); }",
            ),
            ("one.rs", "use tokio::sync::mpsc::unbounded_channel;"),
            (
                "two.rs",
                "fn a() { b(|| { let (c, d) = std::sync::mpsc::channel::<(u8, u8)>(); }); }",
            ),
            (
                "three.rs",
                "fn a() { futures::channel::mpsc::unbounded(); }",
            ),
            (
                "four.rs",
                "#[cfg(test)] mod tests { fn a() { mpsc::channel(); } }",
            ),
        ],
    );
    let expected = [
        "planted/one: unbounded_channel",
        "planted/three: unbounded",
        "planted/two: channel",
    ];
    assert_eq!(planted.unbounded(), expected);
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
