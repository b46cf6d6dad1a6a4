//! The publisher's checkpoint: how far everything is published, and which publisher is active. It is the last event of stream
//! `publisher-users`.

use super::parking::ParkedStream;
use bytes::Bytes;
use event_streams::{
    AppendError, EventStreams, Expected, NewEvent, Position, ReadError, RecordedEvent,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeSet;
use uuid::Uuid;

/// The stream whose last event is the checkpoint.
pub const STREAM: &str = "publisher-users";
const EVENT_TYPE: &str = "PublisherCheckpoint.v1";
/// How many checkpoints the stream keeps. Only the last one counts.
const KEPT: u64 = 2;

/// The position is 0 and 0, and `beginning` is set, as long as nothing is published.
#[derive(Debug, Serialize, Deserialize)]
struct Data {
    commit: u64,
    prepare: u64,
    #[serde(default)]
    beginning: bool,
    /// The active publisher. `None` if the last one has stopped.
    #[serde(default)]
    holder: Option<Uuid>,
    /// Streams that have unpublished events up to the position.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    parked: Vec<ParkedStream>,
}

/// The last checkpoint that this process knows of.
#[derive(Debug, Default)]
pub(super) struct Checkpoint {
    revision: Option<u64>,
    position: Option<Position>,
    /// The stored position lies beyond the end of the log, so it is ignored.
    beyond: bool,
    holder: Option<Uuid>,
    parked: Vec<ParkedStream>,
}

/// How far each stream is published.
#[derive(Debug)]
pub struct Published {
    position: Option<Position>,
    parked: BTreeSet<String>,
}

impl Published {
    /// Whether all events of the stream up to `position` are published.
    #[must_use]
    pub fn has(&self, stream: &str, position: Position) -> bool {
        self.position >= Some(position) && !self.parked.contains(stream)
    }
}

/// Why a checkpoint was not written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    /// Another publisher has written one, and is active now.
    #[error("another publisher took over")]
    Fenced,
    #[error(transparent)]
    Store(#[from] AppendError),
    #[error("the stream {STREAM} holds something that is not a checkpoint")]
    Malformed,
}

/// The position up to which every event is published and routed, or its stream is parked. `None` if nothing is published.
///
/// # Errors
/// When the store is unavailable, or the stream holds something that is not a checkpoint.
pub async fn published_up_to(store: &EventStreams) -> anyhow::Result<Option<Position>> {
    Ok(Checkpoint::read(store).await?.position)
}

/// The position in this checkpoint, as [`published_up_to`] has it for the last one.
///
/// # Errors
/// If the event is not a checkpoint.
pub fn position_of(checkpoint: &RecordedEvent) -> anyhow::Result<Option<Position>> {
    Ok(Checkpoint::of(checkpoint)?.position)
}

/// How far each stream is published.
///
/// # Errors
/// As [`published_up_to`].
pub async fn published(store: &EventStreams) -> anyhow::Result<Published> {
    let checkpoint = Checkpoint::read(store).await?;
    let parked = checkpoint.parked.into_iter().map(|parked| parked.stream);
    Ok(Published {
        position: checkpoint.position,
        parked: parked.collect(),
    })
}

impl Checkpoint {
    /// Reads the last checkpoint. A valid position lies before the checkpoint's own event. Any other position lay beyond the
    /// end of the log when it was written: an earlier version stored the value that a server sends for "no position". It
    /// counts as none, so everything is published again from the beginning. Consumers recognise repeated events by their
    /// revision.
    pub(super) async fn read(store: &EventStreams) -> Result<Self, SaveError> {
        let last = match store.read_last(STREAM).await {
            Ok(last) => last,
            Err(ReadError::StreamDeleted) => return Err(SaveError::Malformed),
            Err(ReadError::Unavailable(error)) => return Err(AppendError::from(error).into()),
        };
        let Some(event) = last else {
            return Ok(Self::default());
        };
        Self::of(&event)
    }

    /// The checkpoint in this event of the stream.
    fn of(event: &RecordedEvent) -> Result<Self, SaveError> {
        let data: Data = serde_json::from_slice(&event.data).map_err(|_| SaveError::Malformed)?;
        let position = Position {
            commit: data.commit,
            prepare: data.prepare,
        };
        let position = (!data.beginning).then_some(position);
        let beyond = position >= Some(event.position);
        Ok(Self {
            revision: Some(event.revision),
            position: position.filter(|_| !beyond),
            beyond,
            holder: data.holder,
            parked: data.parked,
        })
    }

    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    pub(super) fn parked(&self) -> &[ParkedStream] {
        &self.parked
    }

    /// Whether another publisher may still be active.
    pub(super) fn is_held_beside(&self, me: Uuid) -> bool {
        self.holder.is_some_and(|holder| holder != me)
    }

    /// Whether the active publisher has parked a stream because of an event type that only this process knows.
    pub(super) fn waits_for_this_process(&self) -> bool {
        self.parked.iter().any(ParkedStream::waits_for_this_process)
    }

    /// Writes the same position again, which fences the publisher that wrote the last one. No other standby need take over
    /// for the sake of the event types that this process knows.
    pub(super) async fn take_over(
        mut self,
        store: &EventStreams,
        me: Uuid,
    ) -> Result<Self, SaveError> {
        if self.revision.is_none() {
            store.set_max_count(STREAM, KEPT).await?;
        }
        if self.beyond {
            tracing::error!(
                "the checkpoint lies beyond the end of the log: publishing from the beginning"
            );
        }
        self.holder = Some(me);
        for parked in &mut self.parked {
            if parked.waits_for_this_process() {
                parked.unknown = None;
            }
        }
        self.write(store).await?;
        Ok(self)
    }

    /// Moves the checkpoint, or writes the same one again to show that this publisher is alive.
    pub(super) async fn save(
        &mut self,
        store: &EventStreams,
        low_water_mark: Option<Position>,
        parked: Vec<ParkedStream>,
    ) -> Result<(), SaveError> {
        self.position = low_water_mark.max(self.position);
        self.parked = parked;
        self.write(store).await
    }

    /// Writes the last checkpoint of a publisher that stops, so that the next one need not wait.
    pub(super) async fn release(
        mut self,
        store: &EventStreams,
        low_water_mark: Option<Position>,
        parked: Vec<ParkedStream>,
    ) -> Result<(), SaveError> {
        self.position = low_water_mark.max(self.position);
        self.parked = parked;
        self.holder = None;
        self.write(store).await
    }

    /// Changes the list of parked streams, and makes the active publisher start again from this checkpoint.
    pub(super) async fn hand_over(
        mut self,
        store: &EventStreams,
        parked: Vec<ParkedStream>,
    ) -> Result<(), SaveError> {
        self.parked = parked;
        self.holder = None;
        self.write(store).await
    }

    async fn write(&mut self, store: &EventStreams) -> Result<(), SaveError> {
        let position = self.position.unwrap_or(Position {
            commit: 0,
            prepare: 0,
        });
        let data = Data {
            commit: position.commit,
            prepare: position.prepare,
            beginning: self.position.is_none(),
            holder: self.holder,
            parked: self.parked.clone(),
        };
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: EVENT_TYPE.into(),
            data: serde_json::to_vec(&data)
                .expect("numbers and strings can be serialized")
                .into(),
            metadata: Bytes::new(),
        };
        let expected = self.revision.map_or(Expected::NoStream, Expected::Revision);
        match store.append(STREAM, expected, vec![event]).await {
            Ok(appended) => {
                self.revision = Some(appended.revision);
                Ok(())
            }
            Err(AppendError::Conflict { .. }) => Err(SaveError::Fenced),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Data;
    use serde_json::Value;

    #[test]
    fn a_checkpoint_is_read_and_written_as_in_its_frozen_example() {
        let example = include_str!("../../../tests/fixtures/events/PublisherCheckpoint.v1.json");
        let example: Value = serde_json::from_str(example).unwrap();
        let data: Data = serde_json::from_value(example["data"].clone()).unwrap();
        assert_eq!(serde_json::to_value(data).unwrap(), example["data"]);
        // Checkpoints of earlier versions have fewer members.
        let earlier: Data = serde_json::from_str(r#"{"commit":1,"prepare":1}"#).unwrap();
        assert_eq!((earlier.holder, earlier.parked), (None, Vec::new()));
    }
}
