//! The stored form of `WindowGranted`. Its name and its members are frozen: see `tests/fixtures/events`.

use bytes::Bytes;
use event_streams::{NewEvent, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::domain::window::{Holder, Window, WindowGranted};

/// The stored name of [`WindowGranted`].
pub(crate) const WINDOW_GRANTED: &str = "WindowGranted.v1";

/// `{"holder":"<uuid>","from_ms":0,"until_ms":60000}`, in milliseconds since 2015-01-01T00:00:00Z; the end is exclusive.
#[derive(Debug, Serialize, Deserialize)]
struct WindowGrantedV1 {
    holder: Uuid,
    from_ms: u64,
    until_ms: u64,
}

/// The event has another type or malformed data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a {WINDOW_GRANTED}")]
pub(crate) struct Unreadable;

/// The event with a new random id, which stays the same over all retries of the append. If two rivals derived the same id,
/// the store would take the second append for a retry of the first, and both would use the window.
pub(crate) fn store(event: &WindowGranted) -> NewEvent {
    let data = WindowGrantedV1 {
        holder: event.holder.0,
        from_ms: event.window.from_ms,
        until_ms: event.window.until_ms,
    };
    NewEvent {
        id: Uuid::new_v4(),
        event_type: WINDOW_GRANTED.into(),
        data: serde_json::to_vec(&data)
            .expect("a struct of numbers and a uuid serializes")
            .into(),
        metadata: Bytes::new(),
    }
}

pub(crate) fn load(event: &RecordedEvent) -> Result<WindowGranted, Unreadable> {
    if event.event_type != WINDOW_GRANTED {
        return Err(Unreadable);
    }
    let data: WindowGrantedV1 = serde_json::from_slice(&event.data).map_err(|_| Unreadable)?;
    Ok(WindowGranted {
        holder: Holder(data.holder),
        window: Window {
            from_ms: data.from_ms,
            until_ms: data.until_ms,
        },
    })
}

#[cfg(test)]
mod tests {
    use event_streams::Position;
    use serde_json::Value;

    use super::*;

    const FROZEN: &str = include_str!("../tests/fixtures/events/WindowGranted.v1.json");

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

    #[test]
    fn the_frozen_example_is_still_what_is_stored() {
        let event = load(&recorded("WindowGranted.v1", FROZEN)).unwrap();
        let stored = store(&event);
        assert_eq!(stored.event_type, "WindowGranted.v1");
        let json = |bytes: &[u8]| serde_json::from_slice::<Value>(bytes).unwrap();
        assert_eq!(json(&stored.data), json(FROZEN.as_bytes()));
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
