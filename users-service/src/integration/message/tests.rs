use super::*;
use serde_json::Value;

const USER: UserId = UserId::new(1_509_466_340_062_097_408);

const EVENT: Identity = Identity {
    id: Uuid::from_u128(7),
    user: USER,
    revision: 3,
    created: 1_700_000_000_123,
};

fn names() -> BTreeMap<NameField, Personal<String>> {
    let name = |field: NameField| (field, Personal::new(format!("canary {field}")));
    NameField::ALL.into_iter().map(name).collect()
}

fn event(change: Change) -> IntegrationEvent {
    IntegrationEvent {
        id: Uuid::from_u128(7),
        user: USER,
        revision: 3,
        created: 1_700_000_000_123,
        conversation: Some(Uuid::from_u128(0xcafe)),
        change,
    }
}

fn header<'a>(message: &'a Message, name: &str) -> &'a str {
    let header = message.headers.iter().find(|header| header.0 == name);
    header.map(|(_, value)| value.as_str()).unwrap()
}

#[test]
fn a_message_is_a_cloud_event() {
    let message = event(Change::Deleted).encode();
    assert_eq!(message.exchange, "users");
    assert_eq!(message.routing_key, "user.deleted.v1");
    assert_eq!(message.id, "00000000-0000-0000-0000-000000000007");
    for (name, value) in [
        ("cloudEvents:specversion", "1.0"),
        ("cloudEvents:id", "00000000-0000-0000-0000-000000000007"),
        ("cloudEvents:type", "user.deleted.v1"),
        ("cloudEvents:source", "users-service"),
        ("cloudEvents:subject", "1509466340062097408"),
        ("cloudEvents:sequence", "3"),
        ("cloudEvents:partitionkey", "1509466340062097408"),
        ("cloudEvents:time", "2023-11-14T22:13:20.123Z"),
    ] {
        assert_eq!(header(&message, name), value, "{name}");
    }
    assert_eq!(message.body, br#"{"id":"1509466340062097408"}"#);
}

/// The frozen form of a message with sealed names; only the sealed texts differ from message to message.
#[test]
fn a_message_with_names_has_the_key_and_the_sealed_names_in_its_body() {
    let key = SubjectKey::generate();
    let created = event(Change::created(EVENT, &key, &names())).encode();
    let body: Value = serde_json::from_slice(&created.body).unwrap();
    assert_eq!(body["id"], USER.to_string());
    assert_eq!(body["key"], key.id().to_string());
    let sealed = body["sealed"].as_object().unwrap();
    let is_text = |field: NameField| sealed[field.as_str()].is_string();
    assert!(NameField::ALL.into_iter().all(is_text), "{body}");
    assert_eq!((sealed.len(), body.as_object().unwrap().len()), (3, 3));
}

#[test]
fn a_message_has_the_trace_of_its_event_if_the_event_has_one() {
    let mut of_trace = event(Change::Deleted);
    of_trace.id = Uuid::from_u128(0x7d44_4840_9dc0_41d1_b245_5ffd_ce74_fad2);
    let parent = "00-0000000000000000000000000000cafe-b2455ffdce74fad2-00";
    let trace_parent = "cloudEvents:traceparent";
    assert_eq!(header(&of_trace.encode(), trace_parent), parent);
    let without = IntegrationEvent {
        conversation: None,
        ..of_trace
    };
    let message = without.encode();
    assert!(message.headers.iter().all(|(name, _)| name != trace_parent));
}

#[test]
fn no_message_has_a_name_in_clear() {
    let key = SubjectKey::generate();
    for change in [
        Change::created(EVENT, &key, &names()),
        Change::patched(EVENT, &key, &names()),
    ] {
        let message = event(change).encode();
        let text = format!("{message:?} {}", String::from_utf8_lossy(&message.body));
        assert!(!text.contains("canary"), "{text}");
    }
}

#[test]
fn sealed_names_open_only_with_their_key_and_in_their_message() {
    let key = SubjectKey::generate();
    let created = event(Change::created(EVENT, &key, &names()));
    assert_eq!(created.open(&key), Ok(names()));
    let moved = IntegrationEvent {
        user: UserId::new(7),
        ..created.clone()
    };
    assert_eq!(moved.open(&key), Err(DoesNotOpen), "another user");
    let later = IntegrationEvent {
        revision: 4,
        ..created.clone()
    };
    assert_eq!(later.open(&key), Err(DoesNotOpen), "another revision");
    let renamed = IntegrationEvent {
        id: Uuid::from_u128(8),
        ..created.clone()
    };
    assert_eq!(renamed.open(&key), Err(DoesNotOpen), "another event");
    let Change::Created(sealed) = created.change else {
        panic!("it was created as this change")
    };
    let retyped = event(Change::Patched(sealed));
    assert_eq!(retyped.open(&key), Err(DoesNotOpen), "another type");
}

#[test]
fn names_do_not_open_after_one_was_removed() {
    let key = SubjectKey::generate();
    let Change::Patched(Names::Sealed {
        key: id,
        mut fields,
    }) = Change::patched(EVENT, &key, &names())
    else {
        panic!("it was created as this change")
    };
    fields.remove(&NameField::Username);
    let rest = event(Change::Patched(Names::Sealed { key: id, fields }));
    assert_eq!(rest.open(&key), Err(DoesNotOpen));
}

#[test]
fn the_message_of_an_erased_event_is_marked_and_has_no_name() {
    let message = event(Change::Created(Names::Erased)).encode();
    assert_eq!(
        message.body,
        br#"{"id":"1509466340062097408","erased":true}"#
    );
}
