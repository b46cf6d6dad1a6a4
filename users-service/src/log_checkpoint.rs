//! The eraser's checkpoint: the last event of a stream of its own.

use anyhow::Context as _;
use bytes::Bytes;
use event_streams::{AppendError, EventStreams, Expected, NewEvent, Position, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const ERASER: &str = "eraser-users";
const ERASER_CHECKPOINT: &str = "EraserCheckpoint.v1";
/// The store keeps only the last checkpoint.
const KEPT: u64 = 1;

/// All erasures up to this position are finished.
#[derive(Serialize, Deserialize)]
struct StoredPosition {
    commit: u64,
    prepare: u64,
}

/// The last checkpoint that was read or written.
#[derive(Debug)]
pub(super) struct EraserCheckpoint {
    revision: Option<u64>,
    position: Option<Position>,
}

/// The position of a stored checkpoint. A position at or after the checkpoint's own event was beyond the end of the log when
/// it was written (an earlier version stored the value that a server sends for "no position"). Such a position is ignored:
/// the eraser starts from the beginning, which is safe because every step can be repeated.
fn position(event: &RecordedEvent) -> anyhow::Result<Option<Position>> {
    let data: StoredPosition = serde_json::from_slice(&event.data)
        .with_context(|| format!("malformed {}", event.event_type))?;
    let position = Position {
        commit: data.commit,
        prepare: data.prepare,
    };
    if position >= event.position {
        tracing::error!(
            "the checkpoint is beyond the end of the log; all erasures are checked from the beginning"
        );
        return Ok(None);
    }
    Ok(Some(position))
}

impl EraserCheckpoint {
    pub(super) async fn read(store: &EventStreams) -> anyhow::Result<Self> {
        let last = store.read_last(ERASER).await?;
        if last.is_none() {
            store.set_max_count(ERASER, KEPT).await?;
        }
        Ok(Self {
            revision: last.as_ref().map(|event| event.revision),
            position: last.as_ref().map(position).transpose()?.flatten(),
        })
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Moves the checkpoint. Several erasers may do so, because every step can be repeated. If a checkpoint goes back, some
    /// steps are repeated.
    pub(super) async fn save(
        &mut self,
        store: &EventStreams,
        position: Position,
    ) -> anyhow::Result<()> {
        let data = StoredPosition {
            commit: position.commit,
            prepare: position.prepare,
        };
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: ERASER_CHECKPOINT.into(),
            data: serde_json::to_vec(&data)?.into(),
            metadata: Bytes::new(),
        };
        let expected = self.revision.map_or(Expected::NoStream, Expected::Revision);
        match store.append(ERASER, expected, vec![event]).await {
            Ok(appended) => {
                self.revision = Some(appended.revision);
                self.position = Some(position);
                Ok(())
            }
            Err(error @ AppendError::Conflict { .. }) => {
                *self = Self::read(store).await?;
                Err(error).context("another eraser moved the checkpoint")
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
        let example = include_str!("../../tests/fixtures/events/EraserCheckpoint.v1.json");
        let example: Value = serde_json::from_str(example).unwrap();
        let data: StoredPosition = serde_json::from_value(example["data"].clone()).unwrap();
        assert_eq!(serde_json::to_value(data).unwrap(), example["data"]);
    }
}
