use super::*;
use bytes::Bytes;
use event_streams::Position;
use uuid::Uuid;

fn stuck(stream: &str, revision: u64) -> Stuck {
    Stuck {
        stream: stream.to_owned(),
        revision,
        event_type: "UserPromoted.v9".to_owned(),
        why: "unknown".to_owned(),
        refused: false,
    }
}

/// A stream whose next message no queue takes.
fn refused(stream: &str, event_type: &str) -> Stuck {
    Stuck {
        event_type: event_type.to_owned(),
        refused: true,
        ..stuck(stream, 3)
    }
}

fn event(stream: &str, revision: u64) -> RecordedEvent {
    RecordedEvent {
        id: Uuid::nil(),
        stream: stream.to_owned(),
        revision,
        position: Position {
            commit: revision,
            prepare: revision,
        },
        event_type: "UserPatched.v1".to_owned(),
        data: Bytes::new(),
        metadata: Bytes::new(),
        created: 0,
    }
}

fn reached(rest: Rest, next: u64) -> Attempted {
    let end = End::Reached;
    Attempted { rest, next, end }
}

#[test]
fn a_stream_that_is_sent_to_its_end_is_parked_no_more() {
    let mut parking = Parking::default();
    parking.park(stuck("users-1", 3), None);
    let rest = parking.begin("users-1").unwrap();
    assert!(!parking.finish(reached(rest, 4)));
    assert_eq!(parking.list(), []);
}

#[test]
fn what_the_log_brings_during_an_attempt_is_tried_at_once() {
    let mut parking = Parking::default();
    parking.park(stuck("users-1", 3), None);
    let rest = parking.begin("users-1").unwrap();
    parking.see(&event("users-1", 4));
    assert!(parking.finish(reached(rest, 4)));
    assert_eq!(parking.revision("users-1"), Some(4));
    let rest = parking.begin("users-1").unwrap();
    assert_eq!(rest.from, 4);
    assert!(!parking.finish(reached(rest, 5)));
    assert_eq!(parking.list(), []);
}

/// Its events are deleted: what the log brought before the attempt would have been found.
#[test]
fn a_stream_that_has_nothing_left_is_parked_no_more() {
    let mut parking = Parking::default();
    parking.park(stuck("users-1", 3), None);
    parking.see(&event("users-1", 4));
    let rest = parking.begin("users-1").unwrap();
    assert!(!parking.finish(reached(rest, 3)));
    assert_eq!(parking.list(), []);
}

#[test]
fn an_attempt_that_began_before_another_parking_changes_nothing() {
    let mut parking = Parking::default();
    parking.park(stuck("users-1", 3), None);
    let rest = parking.begin("users-1").unwrap();
    parking.end("users-1");
    parking.park(stuck("users-1", 9), None);
    assert!(!parking.finish(reached(rest, 4)));
    assert_eq!(parking.revision("users-1"), Some(9));
}

#[test]
fn of_two_reasons_to_park_a_stream_the_earlier_event_counts() {
    let mut parking = Parking::default();
    parking.park(stuck("users-1", 9), None);
    parking.park(stuck("users-1", 3), Some(8));
    assert_eq!(parking.revision("users-1"), Some(3));
    parking.park(stuck("users-1", 5), None);
    assert_eq!(parking.revision("users-1"), Some(3));
}

#[test]
fn the_list_is_bounded_by_number_and_by_the_length_of_names() {
    let mut parking = Parking::default();
    for number in 0..MOST {
        assert!(!parking.is_full());
        parking.park(stuck(&format!("users-{number}"), 0), None);
    }
    assert!(parking.is_full());
    assert!(!parking.has_room_for("users-x"));
    assert!(parking.has_room_for("users-1"), "it is on the list");
    let told = parking.problem().unwrap();
    assert!(
        told.contains("users-0 at revision 0 (UserPromoted.v9): unknown"),
        "{told}"
    );
    assert!(told.ends_with("and 997 more"), "{told}");
    let long = "x".repeat(MOST_BYTES + 1);
    assert!(!Parking::default().has_room_for(&long));
}

#[test]
fn one_stream_of_each_type_that_no_queue_takes_is_a_scout() {
    let mut parking = Parking::default();
    parking.park(stuck("users-1", 3), None);
    for stream in ["users-2", "users-3"] {
        parking.park(refused(stream, "UserPatched.v1"), None);
    }
    parking.park(refused("users-4", "UserCreated.v1"), None);
    assert_eq!(parking.scouts(), ["users-2", "users-4"]);
    let rest = parking.begin("users-2").unwrap();
    assert!(!parking.shows_a_way(&reached(rest, 3)));
    let rest = parking.begin("users-2").unwrap();
    assert!(parking.shows_a_way(&reached(rest, 4)));
    let rest = parking.begin("users-1").unwrap();
    assert!(!parking.shows_a_way(&reached(rest, 4)));
}
