//! How far the eraser has come: the last event of a stream of its own.

use anyhow::Context as _;
use bytes::Bytes;
use event_streams::{AppendError, EventStreams, Expected, NewEvent, Position, RecordedEvent};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const ERASER: &str = "eraser-users";
const ERASER_CHECKPOINT: &str = "EraserCheckpoint.v1";
/// Only the last one counts.
const KEPT: u64 = 1;

/// The position up to which everything is done.
#[derive(Serialize, Deserialize)]
struct StoredPosition {
    commit: u64,
    prepare: u64,
}

/// The last checkpoint, as it was read or written.
#[derive(Debug)]
pub(super) struct EraserCheckpoint {
    revision: Option<u64>,
    position: Option<Position>,
}

/// A position that does not lie before the checkpoint's own event lay beyond the log's end when it was written (an earlier
/// version stored what a server sends for no position) and counts as none: all erasures are looked at again, because
/// nothing says how far it was, and each step may be repeated.
fn position(event: &RecordedEvent) -> anyhow::Result<Option<Position>> {
    let data: StoredPosition = serde_json::from_slice(&event.data)
        .with_context(|| format!("malformed {}", event.event_type))?;
    let position = Position {
        commit: data.commit,
        prepare: data.prepare,
    };
    if position >= event.position {
        tracing::error!(
            "the checkpoint lies beyond the end of the log: erasing from the beginning"
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

    /// Moves the checkpoint. Another eraser may have: all that erasers do may be done twice, so there is no quarrel, and
    /// a checkpoint that went back would only have some of it done again.
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
