//! The stored forms of the events. Their names and their members are frozen: see `tests/fixtures/events`.

use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::domain::window::{Holder, Window, WindowGranted};

/// The stored name of [`WindowGranted`].
pub(crate) const WINDOW_GRANTED: &str = "WindowGranted.v1";

/// The stored name of the event that a floor is set.
pub(crate) const FLOOR_RAISED: &str = "FloorRaised.v1";

/// `{"floor_ms":60000}`: no window begins before it.
#[derive(Debug, Serialize, Deserialize)]
struct FloorRaisedV1 {
    floor_ms: u64,
}

/// `{"holder":"<uuid>","from_ms":0,"until_ms":60000}`, in milliseconds since 2015-01-01T00:00:00Z; the end is exclusive.
#[derive(Debug, Serialize, Deserialize)]
struct WindowGrantedV1 {
    holder: Uuid,
    from_ms: u64,
    until_ms: u64,
}

/// The event has another type or malformed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event of another type, or malformed")]
pub(crate) struct Unreadable;

/// The event with a new random id, which stays the same over all retries of the append. If two rivals derived the same id,
/// the store would take the second append for a retry of the first, and both would use the window.
pub(crate) fn store(event: &WindowGranted) -> NewEvent {
    let data = WindowGrantedV1 {
        holder: event.holder.0,
        from_ms: event.window.from_ms,
        until_ms: event.window.until_ms,
    };
    new_event(WINDOW_GRANTED, &data)
}

pub(crate) fn store_floor(floor_ms: u64) -> NewEvent {
    new_event(FLOOR_RAISED, &FloorRaisedV1 { floor_ms })
}

fn new_event(event_type: &'static str, data: &impl Serialize) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.into(),
        data: serde_json::to_vec(data)
            .expect("a struct of numbers and a uuid serializes")
            .into(),
        metadata: Bytes::new(),
    }
}

pub(crate) fn load(event: &RecordedEvent) -> Result<WindowGranted, Unreadable> {
    let data: WindowGrantedV1 = data(event, WINDOW_GRANTED)?;
    Ok(WindowGranted {
        holder: Holder(data.holder),
        window: Window {
            from_ms: data.from_ms,
            until_ms: data.until_ms,
        },
    })
}

/// The floor in milliseconds.
pub(crate) fn load_floor(event: &RecordedEvent) -> Result<u64, Unreadable> {
    let data: FloorRaisedV1 = data(event, FLOOR_RAISED)?;
    Ok(data.floor_ms)
}

fn data<T: DeserializeOwned>(event: &RecordedEvent, event_type: &str) -> Result<T, Unreadable> {
    if event.event_type != event_type {
        return Err(Unreadable);
    }
    serde_json::from_slice(&event.data).map_err(|_| Unreadable)
}

#[cfg(test)]
mod tests {
    use event_streams::Position;
    use serde_json::Value;

    use super::*;

    const FROZEN: &str = include_str!("../tests/fixtures/events/WindowGranted.v1.json");
    const FROZEN_FLOOR: &str = include_str!("../tests/fixtures/events/FloorRaised.v1.json");

    fn recorded(event_type: &str, data: &str) -> RecordedEvent {
        RecordedEvent {
            id: Uuid::nil(),
            stream: "uuids-worker-0".to_owned(),
            revision: 0,
            position: Position {
                commit: 0,
                prepare: 0,
            },
            event_type: event_type.to_owned(),
            data: data.to_owned().into(),
            metadata: Bytes::new(),
            created: 0,
        }
    }

    fn json(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn the_frozen_examples_are_still_what_is_stored() {
        let event = load(&recorded("WindowGranted.v1", FROZEN)).unwrap();
        let stored = store(&event);
        assert_eq!(stored.event_type, "WindowGranted.v1");
        assert_eq!(json(&stored.data), json(FROZEN.as_bytes()));

        let floor_ms = load_floor(&recorded("FloorRaised.v1", FROZEN_FLOOR)).unwrap();
        let stored = store_floor(floor_ms);
        assert_eq!(stored.event_type, "FloorRaised.v1");
        assert_eq!(json(&stored.data), json(FROZEN_FLOOR.as_bytes()));
    }

    #[test]
    fn each_event_has_its_own_id() {
        let event = load(&recorded("WindowGranted.v1", FROZEN)).unwrap();
        assert_ne!(store(&event).id, store(&event).id);
    }

    #[test]
    fn anything_else_is_unreadable() {
        assert_eq!(load(&recorded("WindowGranted.v2", FROZEN)), Err(Unreadable));
        assert_eq!(load(&recorded("WindowGranted.v1", "{}")), Err(Unreadable));
    }
}
