use super::*;
use crate::domain::{NameField, Personal};
use crate::privacy::cipher::{Place, Sealed, SubjectKey};
use std::collections::BTreeMap;

fn sealed() -> Sealed {
    let place = Place {
        container: "test",
        event_type: "test",
        field: "test",
    };
    SubjectKey::generate().seal(place, &Personal::new("ada".to_owned()))
}

fn profile() -> SealedProfile {
    SealedProfile {
        key: SubjectKey::generate().id(),
        names: BTreeMap::from([
            (NameField::Username, sealed()),
            (NameField::GivenName, sealed()),
        ]),
    }
}

/// The id of the event that the log has at this revision.
fn id(revision: u64) -> Uuid {
    Uuid::from_u128(revision.into())
}

fn event(revision: u64, effect: Effect) -> DirectoryEvent {
    DirectoryEvent {
        id: id(revision),
        user: UserId::new(7),
        revision,
        effect,
    }
}

fn row(revision: u64, profile: Option<SealedProfile>) -> Row {
    Row {
        revision,
        event: Some(id(revision)),
        profile,
    }
}

#[test]
fn the_first_event_makes_the_row() {
    let profile = profile();
    let verdict = judge(None, &event(0, Effect::Begin(profile.clone())));
    assert_eq!(verdict, Verdict::Apply(row(0, Some(profile))));
}

#[test]
fn a_change_keeps_what_it_does_not_name() {
    let before = profile();
    let name = sealed();
    let change = Effect::Change(SealedProfile {
        key: before.key,
        names: BTreeMap::from([(NameField::Username, name.clone())]),
    });
    let mut after = before.clone();
    after.names.insert(NameField::Username, name);
    let verdict = judge(Some(&row(0, Some(before))), &event(1, change));
    assert_eq!(verdict, Verdict::Apply(row(1, Some(after))));
}

#[test]
fn a_change_under_another_key_is_not_mixed_in() {
    let verdict = judge(
        Some(&row(0, Some(profile()))),
        &event(1, Effect::Change(profile())),
    );
    assert_eq!(verdict, Verdict::Gap);
}

#[test]
fn an_equal_or_lower_revision_is_a_duplicate() {
    for revision in [0, 4, 5] {
        let verdict = judge(Some(&row(5, None)), &event(revision, Effect::Nothing));
        assert_eq!(verdict, Verdict::Duplicate, "{revision}");
    }
}

#[test]
fn a_higher_revision_than_the_next_is_a_gap() {
    assert_eq!(judge(None, &event(1, Effect::Nothing)), Verdict::Gap);
    assert_eq!(
        judge(Some(&row(5, None)), &event(7, Effect::Nothing)),
        Verdict::Gap
    );
}

#[test]
fn a_fence_moves_the_revision_alone() {
    let before = row(0, Some(profile()));
    let verdict = judge(Some(&before), &event(1, Effect::Nothing));
    assert_eq!(verdict, Verdict::Apply(row(1, before.profile)));
}

#[test]
fn an_event_whose_key_is_destroyed_leaves_no_data() {
    let verdict = judge(Some(&row(0, Some(profile()))), &event(1, Effect::Forget));
    assert_eq!(verdict, Verdict::Apply(row(1, None)));
}

#[test]
fn a_deletion_is_applied_whatever_is_missing_before_it() {
    for before in [None, Some(row(0, Some(profile())))] {
        let verdict = judge(before.as_ref(), &event(9, Effect::Erase));
        let erased = Row {
            event: Some(id(9)),
            ..row(ERASED, None)
        };
        assert_eq!(verdict, Verdict::Apply(erased));
    }
}

#[test]
fn after_a_deletion_every_event_is_a_duplicate() {
    for effect in [Effect::Begin(profile()), Effect::Nothing, Effect::Erase] {
        let verdict = judge(Some(&row(ERASED, None)), &event(10, effect));
        assert_eq!(verdict, Verdict::Duplicate);
    }
}

#[test]
fn another_event_in_the_place_of_the_last_one_is_a_conflict() {
    let forged = DirectoryEvent {
        id: Uuid::from_u128(99),
        ..event(5, Effect::Nothing)
    };
    assert_eq!(judge(Some(&row(5, None)), &forged), Verdict::Conflict);
}

#[test]
fn a_row_that_the_log_has_not_confirmed_takes_a_deletion_and_nothing_else() {
    for revision in [5, ERASED] {
        let unconfirmed = Row {
            event: None,
            ..row(revision, None)
        };
        for revision in [0, 5, 6, 7] {
            let verdict = judge(Some(&unconfirmed), &event(revision, Effect::Nothing));
            assert_eq!(verdict, Verdict::Conflict, "{revision}");
        }
        let verdict = judge(Some(&unconfirmed), &event(6, Effect::Erase));
        assert!(matches!(verdict, Verdict::Apply(row) if row.is_final()));
    }
}
