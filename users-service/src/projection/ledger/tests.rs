use super::*;
use crate::domain::UserId;
use crate::privacy::cipher::SubjectKey;
use crate::read_model::OpenedNames;
use crate::stored_event::UserCount;
use std::collections::BTreeMap;

/// The id of the event that the log has at this revision.
fn id(revision: u64) -> Uuid {
    Uuid::from_u128(revision.into())
}

fn event(revision: u64, change: ProvenChange) -> ProvenEvent {
    ProvenEvent {
        id: id(revision),
        user: UserId::new(7),
        revision,
        created: 0,
        change,
    }
}

fn deleted() -> ProvenEvent {
    event(ERASED, ProvenChange::Deleted)
}

fn under(key: &SubjectKey) -> OpenedNames {
    OpenedNames {
        key: key.clone(),
        names: BTreeMap::new(),
    }
}

fn entry(revision: u64, key: Option<&SubjectKey>) -> Entry {
    Entry {
        revision,
        event: id(revision),
        key: key.map(SubjectKey::id),
    }
}

#[test]
fn the_first_event_is_applied() {
    let key = SubjectKey::generate();
    let verdict = judge(None, &event(0, ProvenChange::Created(Some(under(&key)))));
    assert_eq!(verdict, Verdict::Apply(entry(0, Some(&key))));
}

#[test]
fn the_next_event_keeps_the_key_of_the_names() {
    let key = SubjectKey::generate();
    for change in [
        ProvenChange::Patched(Some(under(&key))),
        ProvenChange::Nothing,
    ] {
        let verdict = judge(Some(&entry(3, Some(&key))), &event(4, change));
        assert_eq!(verdict, Verdict::Apply(entry(4, Some(&key))));
    }
}

#[test]
fn a_change_of_a_user_without_names_gives_no_key() {
    let change = ProvenChange::Patched(Some(under(&SubjectKey::generate())));
    let verdict = judge(Some(&entry(0, None)), &event(1, change));
    assert_eq!(verdict, Verdict::Apply(entry(1, None)));
}

#[test]
fn an_event_whose_key_is_destroyed_forgets_the_key() {
    let key = SubjectKey::generate();
    let verdict = judge(
        Some(&entry(0, Some(&key))),
        &event(1, ProvenChange::Patched(None)),
    );
    assert_eq!(verdict, Verdict::Apply(entry(1, None)));
    let verdict = judge(None, &event(0, ProvenChange::Created(None)));
    assert_eq!(verdict, Verdict::Apply(entry(0, None)));
}

#[test]
fn an_earlier_revision_is_a_duplicate() {
    for revision in 0..=3 {
        let verdict = judge(
            Some(&entry(3, None)),
            &event(revision, ProvenChange::Nothing),
        );
        assert_eq!(verdict, Verdict::Duplicate, "{revision}");
    }
}

#[test]
fn a_later_revision_is_a_gap() {
    for (before, revision) in [(None, 1), (Some(entry(3, None)), 5)] {
        let verdict = judge(before.as_ref(), &event(revision, ProvenChange::Nothing));
        assert_eq!(verdict, Verdict::Gap, "{revision}");
    }
}

#[test]
fn names_under_another_key_are_a_gap() {
    let (key, other) = (SubjectKey::generate(), SubjectKey::generate());
    let change = ProvenChange::Patched(Some(under(&other)));
    let verdict = judge(Some(&entry(0, Some(&key))), &event(1, change));
    assert_eq!(verdict, Verdict::Gap);
}

#[test]
fn another_event_at_the_same_revision_is_a_conflict() {
    let mut other = event(3, ProvenChange::Nothing);
    other.id = id(30);
    assert_eq!(judge(Some(&entry(3, None)), &other), Verdict::Conflict);
}

#[test]
fn a_deletion_is_applied_whatever_is_missing_before_it() {
    for before in [None, Some(entry(3, None))] {
        let verdict = judge(before.as_ref(), &deleted());
        assert_eq!(verdict, Verdict::Apply(entry(ERASED, None)));
    }
}

#[test]
fn everything_after_a_deletion_is_a_duplicate_but_the_count() {
    let before = entry(ERASED, None);
    let mut tombstone = event(ERASED, ProvenChange::Tombstoned);
    tombstone.id = Uuid::nil();
    let key = SubjectKey::generate();
    let created = event(0, ProvenChange::Created(Some(under(&key))));
    for late in [
        deleted(),
        tombstone,
        created,
        event(u64::MAX, ProvenChange::Nothing),
    ] {
        assert_eq!(judge(Some(&before), &late), Verdict::Duplicate, "{late:?}");
    }
    let counted = event(ERASED, ProvenChange::Counted(UserCount::default()));
    assert_eq!(judge(Some(&before), &counted), Verdict::Apply(before));
}

#[test]
fn the_highest_revision_does_not_overflow() {
    let before = entry(ERASED - 1, None);
    let verdict = judge(Some(&before), &event(ERASED - 1, ProvenChange::Nothing));
    assert_eq!(verdict, Verdict::Duplicate);
}
