//! How far a role has worked through the log: the last event of a stream of its own.

use anyhow::Context as _;
use bytes::Bytes;
use event_streams::{AppendError, EventStreams, Expected, NewEvent, Position, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The store keeps only the last checkpoint.
const KEPT: u64 = 1;

/// The place of a role's checkpoint.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckpointPlace {
    /// The stream.
    pub(crate) stream: &'static str,
    /// The stored name of the event.
    pub(crate) event_type: &'static str,
}

/// Everything up to this position is done.
#[derive(Serialize, Deserialize)]
struct StoredPosition {
    commit: u64,
    prepare: u64,
}

/// The last checkpoint that was read or written.
#[derive(Debug)]
pub(crate) struct LogCheckpoint {
    place: CheckpointPlace,
    revision: Option<u64>,
    position: Option<Position>,
    /// The position of the checkpoint's own event.
    recorded_at: Option<Position>,
}

/// The position of a stored checkpoint. A position at or after the checkpoint's own event was beyond the end of the log when
/// it was written (an earlier version stored the value that a server sends for "no position"). Such a position is ignored:
/// the role starts from the beginning, which is safe because every step can be repeated.
fn position(event: &RecordedEvent) -> anyhow::Result<Option<Position>> {
    let data: StoredPosition = serde_json::from_slice(&event.data)
        .with_context(|| format!("malformed {}", event.event_type))?;
    let position = Position {
        commit: data.commit,
        prepare: data.prepare,
    };
    if position >= event.position {
        tracing::error!(
            stream = event.stream,
            "the checkpoint is beyond the end of the log; everything is checked from the beginning"
        );
        return Ok(None);
    }
    Ok(Some(position))
}

impl LogCheckpoint {
    pub(crate) async fn read(store: &EventStreams, place: CheckpointPlace) -> anyhow::Result<Self> {
        let last = store.read_last(place.stream).await?;
        if last.is_none() {
            store.set_max_count(place.stream, KEPT).await?;
        }
        Ok(Self {
            place,
            revision: last.as_ref().map(|event| event.revision),
            position: last.as_ref().map(position).transpose()?.flatten(),
            recorded_at: last.as_ref().map(|event| event.position),
        })
    }

    pub(crate) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether the position follows the last checkpoint.
    pub(crate) fn is_before(&self, position: Position) -> bool {
        self.position < Some(position)
    }

    /// Whether the log up to this position has more than the last checkpoint knew, apart from the checkpoint itself.
    pub(crate) fn is_outgrown_by(&self, position: Position) -> bool {
        self.recorded_at < Some(position)
    }

    /// Moves the checkpoint. Several processes of one role may do so, because every step can be repeated. If a checkpoint goes
    /// back, some steps are repeated. Returns false if another process has moved the checkpoint. Then it is read again.
    pub(crate) async fn save(
        &mut self,
        store: &EventStreams,
        position: Position,
    ) -> anyhow::Result<bool> {
        let data = StoredPosition {
            commit: position.commit,
            prepare: position.prepare,
        };
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: self.place.event_type.into(),
            data: serde_json::to_vec(&data)?.into(),
            metadata: Bytes::new(),
        };
        let expected = self.revision.map_or(Expected::NoStream, Expected::Revision);
        match store.append(self.place.stream, expected, vec![event]).await {
            Ok(appended) => {
                self.revision = Some(appended.revision);
                self.position = Some(position);
                self.recorded_at = Some(appended.position);
                Ok(true)
            }
            Err(AppendError::Conflict { .. }) => {
                *self = Self::read(store, self.place).await?;
                Ok(false)
            }
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::StoredPosition;
    use serde_json::Value;

    #[test]
    fn a_checkpoint_is_read_and_written_as_in_its_frozen_example() {
        for example in [
            include_str!("../tests/fixtures/events/EraserCheckpoint.v1.json"),
            include_str!("../tests/fixtures/events/SweepCheckpoint.v1.json"),
        ] {
            let example: Value = serde_json::from_str(example).unwrap();
            let data: StoredPosition = serde_json::from_value(example["data"].clone()).unwrap();
            assert_eq!(serde_json::to_value(data).unwrap(), example["data"]);
        }
    }
}
