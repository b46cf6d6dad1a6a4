use super::*;
use crate::domain::{Personal, UserId};
use crate::read_model::{ERASED, ProvenEvent};
use uuid::Uuid;

fn secret() -> SearchSecret {
    SearchSecret::of(&"0a".repeat(32).parse().unwrap())
}

fn opened(key: &SubjectKey, names: &[(NameField, &str)]) -> OpenedNames {
    let name = |&(field, name): &(NameField, &str)| (field, Personal::new(name.to_owned()));
    OpenedNames {
        key: key.clone(),
        names: names.iter().map(name).collect(),
    }
}

fn ada(key: &SubjectKey) -> ProvenChange {
    let names = [
        (NameField::Username, "ada"),
        (NameField::GivenName, "Ada"),
        (NameField::FamilyName, "Lovelace"),
    ];
    ProvenChange::Created(Some(opened(key, &names)))
}

fn events(changes: Vec<ProvenChange>) -> Vec<ProvenEvent> {
    let event = |(revision, change): (usize, ProvenChange)| ProvenEvent {
        id: Uuid::from_u128(revision as u128),
        user: UserId::new(7),
        revision: revision as u64,
        created: 1_000 + revision as u64,
        change,
    };
    changes.into_iter().enumerate().map(event).collect()
}

/// The row after these changes of a user.
fn after(row: Option<Row>, anew: bool, changes: Vec<ProvenChange>) -> Option<Row> {
    let secret = secret();
    let making = Making {
        secret: &secret,
        generation: 1,
    };
    let events = events(changes);
    let changes = UserChanges {
        user: UserId::new(7),
        anew,
        events: events.iter().collect(),
    };
    making.evolve(row, &changes)
}

fn name(row: &Row, key: &SubjectKey, field: NameField) -> String {
    open(row, key, 1).unwrap()[&field].reveal().clone()
}

#[test]
fn a_created_user_has_a_row_with_the_time_of_creation() {
    let key = SubjectKey::generate();
    let row = after(None, false, vec![ada(&key)]).unwrap();
    assert_eq!((row.created, row.key), (1_000, key.id()));
    assert_eq!(name(&row, &key, NameField::FamilyName), "Lovelace");
    assert!(open(&row, &key, 2).is_err(), "of another generation");
    // The whole username, its one beginning, and the family name.
    assert_eq!(row.terms.all().len(), 3);
}

#[test]
fn a_change_keeps_the_other_names_and_their_terms() {
    let key = SubjectKey::generate();
    let before = after(None, false, vec![ada(&key)]).unwrap();
    let change = ProvenChange::Patched(Some(opened(&key, &[(NameField::Username, "augusta")])));
    let row = after(Some(before.clone()), false, vec![change]).unwrap();
    assert_eq!(row.created, before.created);
    assert_eq!(name(&row, &key, NameField::Username), "augusta");
    assert_eq!(
        row.names[&NameField::FamilyName],
        before.names[&NameField::FamilyName]
    );
    assert_eq!(row.terms.family_name, before.terms.family_name);
    assert_eq!(row.terms.username.len(), 6);
}

#[test]
fn a_deleted_user_and_one_without_a_key_have_no_row() {
    let key = SubjectKey::generate();
    for end in [
        ProvenChange::Deleted,
        ProvenChange::Tombstoned,
        ProvenChange::Patched(None),
        ProvenChange::Created(None),
    ] {
        assert_eq!(after(None, false, vec![ada(&key), end]), None);
    }
}

#[test]
fn a_fence_changes_nothing() {
    let key = SubjectKey::generate();
    let before = after(None, false, vec![ada(&key)]);
    let row = after(before.clone(), false, vec![ProvenChange::Nothing]);
    assert_eq!(row, before);
}

#[test]
fn a_user_made_anew_keeps_nothing_of_before() {
    let key = SubjectKey::generate();
    let before = after(None, false, vec![ada(&key)]);
    assert_eq!(after(before.clone(), true, Vec::new()), None);
    let other = SubjectKey::generate();
    let row = after(before, true, vec![ada(&other)]).unwrap();
    assert_eq!(row.key, other.id());
}

#[test]
fn only_events_that_change_the_row_need_it() {
    let one = |revision, change| {
        let mut event = events(vec![change]).remove(0);
        event.revision = revision;
        event
    };
    let key = SubjectKey::generate();
    for (event, concerned, existing) in [
        (one(0, ada(&key)), true, false),
        (one(1, ProvenChange::Nothing), false, true),
        (one(2, ProvenChange::Patched(None)), true, true),
        (one(ERASED, ProvenChange::Deleted), true, true),
    ] {
        let changes = UserChanges {
            user: UserId::new(7),
            anew: false,
            events: vec![&event],
        };
        assert_eq!(concerns(&changes), concerned, "{event:?}");
        assert_eq!(may_exist(&changes), existing, "{event:?}");
    }
}
