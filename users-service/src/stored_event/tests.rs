use super::{
    AcceptedCommand, Caller, CommandEvent, CurrentNames, Fence, NoEvent, Origin, ReservationEvent,
    StoredEvent, Undecodable, UserSnapshot, reservation_of_stream, user_of_stream, user_stream,
};
use crate::domain::{
    Changes, Claim, FamilyName, GivenName, Profile, ReservationName, UserError, UserEvent, UserId,
    Username,
};
use crate::privacy::cipher::SubjectKey;
use event_streams::{NewEvent, Position, RecordedEvent};
use serde_json::{Value, json};
use uuid::{Uuid, uuid};

pub(super) fn recorded(stream: &str, event: NewEvent) -> RecordedEvent {
    RecordedEvent {
        id: event.id,
        stream: stream.to_owned(),
        revision: 0,
        position: Position {
            commit: 0,
            prepare: 0,
        },
        event_type: event.event_type.into_owned(),
        data: event.data,
        metadata: event.metadata,
        created: 0,
    }
}

/// The frozen example of this event type: `{"stream", "type", "data", "metadata"?}`.
fn example(event_type: &str) -> RecordedEvent {
    example_in(event_type, event_type)
}

/// The frozen example in this file.
fn example_in(file: &str, event_type: &str) -> RecordedEvent {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/events");
    let text = std::fs::read_to_string(format!("{folder}/{file}.json")).unwrap();
    let example: Value = serde_json::from_str(&text).unwrap();
    let bytes = |member: &str| {
        example
            .get(member)
            .map(Value::to_string)
            .unwrap_or_default()
    };
    let event = NewEvent {
        id: Uuid::nil(),
        event_type: event_type.to_owned().into(),
        data: bytes("data").into(),
        metadata: bytes("metadata").into(),
    };
    assert_eq!(example["type"], event_type);
    recorded(example["stream"].as_str().unwrap(), event)
}

fn key() -> SubjectKey {
    SubjectKey::of_bytes([7; 32])
}

fn ada() -> UserId {
    UserId::new(1)
}

fn created() -> UserEvent {
    UserEvent::Created {
        profile: Profile {
            username: Username::parse("ada").unwrap(),
            given_name: GivenName::parse("Ada").unwrap(),
            family_name: FamilyName::parse("Lovelace").unwrap(),
        },
        claim: claim(0),
    }
}

fn patched() -> UserEvent {
    UserEvent::Patched {
        changes: Changes {
            given_name: Some(GivenName::parse("Augusta").unwrap()),
            ..Changes::default()
        },
        claim: claim(3),
    }
}

fn claim(revision: u64) -> Claim {
    Claim {
        reservation: ReservationName::new("username-00"),
        revision,
    }
}

fn every_user_event() -> [UserEvent; 5] {
    [
        created(),
        patched(),
        UserEvent::Deleted,
        UserEvent::RegistrationAbandoned,
        UserEvent::RenameFenced,
    ]
}

/// The JSON with every sealed value blanked out, because sealing never produces the same bytes twice.
fn shape(bytes: &[u8]) -> Value {
    let mut value: Value = serde_json::from_slice(bytes).unwrap_or_default();
    if let Some(sealed) = value.get_mut("sealed").and_then(Value::as_object_mut) {
        sealed.values_mut().for_each(|value| *value = json!("…"));
    }
    value
}

#[test]
fn every_user_event_is_read_and_written_as_in_its_frozen_example() {
    for event in every_user_event() {
        let new = StoredEvent::encode(Uuid::nil(), ada(), &event, &key());
        let example = example(&new.event_type);
        let read = StoredEvent::decode(&example).unwrap();
        assert_eq!(read.open(&key()), Ok(event));
        assert_eq!(shape(&new.data), shape(&example.data));
        assert_eq!(shape(&new.metadata), shape(&example.metadata));
    }
}

#[test]
fn an_event_of_a_command_is_read_and_written_with_its_origin_as_in_its_frozen_example() {
    let origin = Origin {
        caller: Caller::ANONYMOUS,
        correlation: uuid!("4bf92f35-77b3-4da6-a3ce-929d0e0e4736"),
        causation: uuid!("7d444840-9dc0-41d1-b245-5ffdce74fad2"),
    };
    for event in [created(), patched(), UserEvent::Deleted] {
        let new = StoredEvent::encode(Uuid::nil(), ada(), &event, &key());
        let new = origin.added_to(new);
        let example = example_in(&format!("{}.with-origin", new.event_type), &new.event_type);
        let read = StoredEvent::decode(&example).unwrap();
        assert_eq!(read.open(&key()), Ok(event));
        assert_eq!(shape(&new.data), shape(&example.data));
        assert_eq!(shape(&new.metadata), shape(&example.metadata));
    }
}

#[test]
fn every_reservation_event_is_read_and_written_as_in_its_frozen_example() {
    let leaves = Some(ReservationName::new("username-01"));
    let renamed = ReservationEvent::Claimed {
        user: ada(),
        leaves,
    };
    for (file, event) in [
        ("UsernameClaimed.v1", ReservationEvent::claimed(ada())),
        ("UsernameClaimed.v1.of-a-rename", renamed),
        ("UsernameReleased.v1", ReservationEvent::Released),
    ] {
        let new = event.encode(Uuid::nil());
        let example = example_in(file, &new.event_type);
        assert_eq!(ReservationEvent::decode(&example), Ok(event));
        assert_eq!(shape(&new.data), shape(&example.data));
    }
}

#[test]
fn a_snapshot_is_read_and_written_as_in_its_frozen_example() {
    let UserEvent::Created { profile, claim } = created() else {
        panic!("no creation");
    };
    let snapshot = UserSnapshot {
        names: UserSnapshot::seal(ada(), profile.clone(), &claim, &key()),
        last: (uuid!("7d444840-9dc0-41d1-b245-5ffdce74fad2"), 300),
        changed: 299,
    };
    let (last, changed) = (snapshot.last, snapshot.changed);
    let new = snapshot.encode(Uuid::nil(), ada());
    let example = example(&new.event_type);
    assert_eq!(shape(&new.data), shape(&example.data));
    assert_eq!(shape(&new.metadata), shape(&example.metadata));
    let read = UserSnapshot::decode(&example).unwrap();
    assert_eq!((read.last, read.changed), (last, changed));
    assert_eq!((read.names.key, &read.names.claim), (key().id(), &claim));
    let opened = CurrentNames::of_snapshot(&read.names).open(&key());
    assert_eq!(opened, Ok(profile));
}

#[test]
fn every_event_of_a_command_stream_is_read_and_written_as_in_its_frozen_example() {
    let accepted = AcceptedCommand {
        command: uuid!("7d444840-9dc0-41d1-b245-5ffdce74fad2"),
        user: ada(),
        body: Some((key().id(), key().fingerprint("command-00", &[]))),
        revision: Some(3),
    };
    for event in [
        CommandEvent::Accepted(accepted),
        CommandEvent::Resumed(ada()),
        CommandEvent::Done(NoEvent::Refused(UserError::UsernameTaken)),
    ] {
        let new = event.encode(Uuid::nil());
        let example = example(&new.event_type);
        assert_eq!(CommandEvent::decode(&example), Ok(event));
        assert_eq!(shape(&new.data), shape(&example.data));
    }
}

#[test]
fn every_outcome_without_an_event_is_read_as_it_was_written() {
    let refusals = [
        UserError::Unknown,
        UserError::Exists,
        UserError::Abandoned,
        UserError::Erased,
        UserError::UsernameTaken,
    ];
    let outcomes = refusals.map(NoEvent::Refused);
    let others = [NoEvent::Unchanged(7), NoEvent::PreconditionFailed];
    for outcome in outcomes.into_iter().chain(others) {
        let event = CommandEvent::Done(outcome);
        let stored = recorded("command-00", event.encode(Uuid::nil()));
        assert_eq!(CommandEvent::decode(&stored), Ok(event));
    }
}

#[test]
fn a_stored_name_is_read_even_if_a_command_may_not_have_it() {
    for name in ["", "zed ", "\u{200B}", "a\u{7}b", "\u{378}"] {
        let event = UserEvent::Created {
            profile: Profile {
                username: Username::as_stored(name.to_owned()),
                given_name: GivenName::as_stored(name.to_owned()),
                family_name: FamilyName::as_stored(name.to_owned()),
            },
            claim: claim(0),
        };
        let stored = StoredEvent::encode(Uuid::nil(), ada(), &event, &key());
        let read = StoredEvent::decode(&recorded("users-1", stored)).unwrap();
        assert_eq!(read.open(&key()), Ok(event), "{name:?}");
    }
}

#[test]
fn names_sealed_for_one_stream_do_not_open_in_another() {
    let event = StoredEvent::encode(Uuid::nil(), ada(), &created(), &key());
    let copied = StoredEvent::decode(&recorded("users-2", event)).unwrap();
    assert!(copied.open(&key()).is_err());
}

#[test]
fn no_personal_value_is_stored_in_clear() {
    for event in every_user_event() {
        let new = StoredEvent::encode(Uuid::nil(), ada(), &event, &key());
        let text = format!("{:?} {:?}", new.data, new.metadata).to_lowercase();
        for name in ["ada", "augusta", "lovelace"] {
            assert!(!text.contains(name), "{text}");
        }
    }
}

#[test]
fn a_fence_is_decoded_as_the_event_of_the_domain() {
    let read = |fence: Fence| {
        let event = recorded("users-1", fence.encode(Uuid::nil(), ada()));
        StoredEvent::decode(&event)
    };
    assert_eq!(
        read(Fence::RegistrationAbandoned),
        Ok(StoredEvent::RegistrationAbandoned)
    );
    assert_eq!(read(Fence::RenameFenced), Ok(StoredEvent::RenameFenced));
}

#[test]
fn an_unknown_or_malformed_event_is_an_error_that_repeats_no_value() {
    let mut event = example("UserCreated.v1");
    for data in [
        "",
        "null",
        "{}",
        r#"{"id":"1","key":"x","sealed":{}}"#,
        r#"{"id":1}"#,
    ] {
        event.data = data.to_owned().into();
        let malformed = Undecodable::Malformed("UserCreated.v1".to_owned());
        assert_eq!(StoredEvent::decode(&event), Err(malformed), "{data}");
    }
    event.event_type = "UserCreated.v2".to_owned();
    let unknown = Undecodable::UnknownType("UserCreated.v2".to_owned());
    assert_eq!(StoredEvent::decode(&event), Err(unknown));
}

#[test]
fn a_creation_without_a_username_does_not_open() {
    let mut event = example("UserCreated.v1");
    let mut data: Value = serde_json::from_slice(&event.data).unwrap();
    data["sealed"].as_object_mut().unwrap().remove("username");
    event.data = data.to_string().into();
    assert!(StoredEvent::decode(&event).unwrap().open(&key()).is_err());
}

#[test]
fn the_user_of_a_stream_is_known_by_its_name() {
    assert_eq!(user_of_stream(&user_stream(ada())), Some(ada()));
    for stream in [
        "users",
        "users-",
        "users-x",
        "users-01",
        "username-1",
        "$$users-1",
    ] {
        assert_eq!(user_of_stream(stream), None, "{stream}");
    }
}

#[test]
fn a_reservation_is_known_by_the_name_of_its_stream() {
    let hash = "0123456789abcdef".repeat(4);
    let name = format!("username-{hash}");
    assert_eq!(
        reservation_of_stream(&name),
        Some(ReservationName::new(&name))
    );
    for stream in [
        "username-",
        "username-policy",
        &format!("username-{hash}0"),
        &format!("username-{}", hash.to_uppercase()),
        &format!("$${name}"),
        &format!("users-{hash}"),
    ] {
        assert_eq!(reservation_of_stream(stream), None, "{stream}");
    }
}
