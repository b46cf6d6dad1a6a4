use super::UserHistory;
use crate::domain::{
    Changes, Claim, FamilyName, GivenName, Profile, ReservationName, User, UserEvent, UserId,
    UserState, Username,
};
use crate::privacy::cipher::SubjectKey;
use crate::stored_event::{StoredEvent, user_stream};
use event_streams::{Position, RecordedEvent};
use uuid::Uuid;

const USER: UserId = UserId::new(1);

fn claim(revision: u64) -> Claim {
    Claim {
        reservation: ReservationName::new("username-00"),
        revision,
    }
}

fn created() -> UserEvent {
    let profile = Profile {
        username: Username::parse("ada").unwrap(),
        given_name: GivenName::parse("Ada").unwrap(),
        family_name: FamilyName::parse("Lovelace").unwrap(),
    };
    let claim = claim(0);
    UserEvent::Created { profile, claim }
}

/// Events that may follow the creation.
fn later() -> [UserEvent; 4] {
    let patched = |changes, revision| UserEvent::Patched {
        changes,
        claim: claim(revision),
    };
    let username = Changes {
        username: Username::parse("lady").ok(),
        ..Changes::default()
    };
    let given_name = Changes {
        given_name: GivenName::parse("Augusta").ok(),
        ..Changes::default()
    };
    let both = Changes {
        given_name: GivenName::parse("A.").ok(),
        family_name: FamilyName::parse("King").ok(),
        ..Changes::default()
    };
    [
        patched(username, 1),
        patched(given_name, 0),
        patched(both, 2),
        UserEvent::RenameFenced,
    ]
}

/// Every history of a user with at most `length` events after the creation.
fn every_history(length: usize) -> Vec<Vec<UserEvent>> {
    let mut all = vec![vec![created()]];
    let mut longest = all.clone();
    for _ in 0..length {
        let longer = longest
            .iter()
            .flat_map(|history| later().map(|event| [history.as_slice(), &[event]].concat()));
        longest = longer.collect();
        all.extend(longest.clone());
    }
    all
}

fn folded(events: &[UserEvent], key: &SubjectKey) -> UserHistory {
    let mut history = UserHistory::default();
    for (revision, event) in (0..).zip(events) {
        let new = StoredEvent::encode(Uuid::new_v4(), USER, event, key);
        history.fold(&RecordedEvent {
            id: new.id,
            stream: user_stream(USER),
            revision,
            position: Position {
                commit: 0,
                prepare: 0,
            },
            event_type: new.event_type.into_owned(),
            data: new.data,
            metadata: new.metadata,
            created: 0,
        });
    }
    history
}

#[test]
fn a_folded_history_opens_to_the_state_that_the_domain_folds_from_the_same_events() {
    let key = SubjectKey::generate();
    let histories = every_history(4);
    assert_eq!(histories.len(), 1 + 4 + 16 + 64 + 256);
    for events in histories {
        let state = event_sourcing::fold::<User>(&events);
        assert_eq!(folded(&events, &key).open(&key).unwrap(), state);
    }
}

#[test]
fn a_fence_changes_the_last_revision_and_not_the_one_that_changed_the_user() {
    let key = SubjectKey::generate();
    let [rename, ..] = later();
    let mut events = vec![created(), rename, UserEvent::RenameFenced];
    let history = folded(&events, &key);
    assert_eq!((history.changed(), history.revision()), (Some(1), Some(2)));
    events.push(UserEvent::Deleted);
    let history = folded(&events, &key);
    assert_eq!((history.changed(), history.revision()), (Some(3), Some(3)));
    assert_eq!(history.key(), Some(key.id()));
}

#[test]
fn a_history_does_not_grow_with_its_events() {
    let key = SubjectKey::generate();
    let [_, given_name, ..] = later();
    let mut events = vec![created(), given_name];
    let short = format!("{:?}", folded(&events, &key)).len();
    events.extend(vec![events[1].clone(); 1_000]);
    let long = folded(&events, &key);
    // The revision and the ids have more digits.
    assert!(format!("{long:?}").len() < short + 100);
    assert!(matches!(long.open(&key).unwrap(), UserState::Active(_)));
}
