//! How far everything is published, and whose turn it is: the last event of stream `publisher-users`.

use bytes::Bytes;
use event_streams::{AppendError, EventStreams, Expected, NewEvent, Position, ReadError};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

const STREAM: &str = "publisher-users";
const EVENT_TYPE: &str = "PublisherCheckpoint.v1";
/// Only the last one counts.
const KEPT: u64 = 2;

/// The position is 0 and 0, and `beginning` is set, as long as nothing is published.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Data {
    commit: u64,
    prepare: u64,
    #[serde(default)]
    beginning: bool,
    /// Who is publishing; none if the last one has stopped.
    #[serde(default)]
    holder: Option<Uuid>,
}

/// The last checkpoint that this process knows of.
#[derive(Debug)]
pub(super) struct Checkpoint {
    revision: Option<u64>,
    position: Option<Position>,
    holder: Option<Uuid>,
}

/// Why a checkpoint was not written or read.
#[derive(Debug, thiserror::Error)]
pub(super) enum SaveError {
    /// Another publisher wrote one: it is its turn.
    #[error("another publisher took over")]
    Fenced,
    #[error(transparent)]
    Store(#[from] AppendError),
    #[error("the stream {STREAM} holds something else")]
    Malformed,
}

/// The position up to which everything is published and routed; none if nothing is.
///
/// # Errors
/// When the store is away, or the stream holds something else.
pub async fn published_up_to(store: &EventStreams) -> anyhow::Result<Option<Position>> {
    Ok(Checkpoint::read(store).await?.position)
}

impl Checkpoint {
    pub(super) async fn read(store: &EventStreams) -> Result<Self, SaveError> {
        let last = match store.read_last(STREAM).await {
            Ok(last) => last,
            Err(ReadError::StreamDeleted) => return Err(SaveError::Malformed),
            Err(ReadError::Unavailable(error)) => return Err(AppendError::from(error).into()),
        };
        let Some(event) = last else {
            return Ok(Self {
                revision: None,
                position: None,
                holder: None,
            });
        };
        let data: Data = serde_json::from_slice(&event.data).map_err(|_| SaveError::Malformed)?;
        let position = Position {
            commit: data.commit,
            prepare: data.prepare,
        };
        Ok(Self {
            revision: Some(event.revision),
            position: (!data.beginning).then_some(position),
            holder: data.holder,
        })
    }

    pub(super) fn revision(&self) -> Option<u64> {
        self.revision
    }

    pub(super) fn position(&self) -> Option<Position> {
        self.position
    }

    /// Whether somebody else may still be publishing.
    pub(super) fn is_held_beside(&self, me: Uuid) -> bool {
        self.holder.is_some_and(|holder| holder != me)
    }

    /// Writes the same position again: whoever wrote the last one is fenced from here on.
    pub(super) async fn take_over(
        mut self,
        store: &EventStreams,
        me: Uuid,
    ) -> Result<Self, SaveError> {
        if self.revision.is_none() {
            store.set_max_count(STREAM, KEPT).await?;
        }
        self.holder = Some(me);
        self.write(store).await?;
        Ok(self)
    }

    /// Moves the checkpoint, or says once more that somebody is here.
    pub(super) async fn save(
        &mut self,
        store: &EventStreams,
        mark: Option<Position>,
    ) -> Result<(), SaveError> {
        self.position = mark.max(self.position);
        self.write(store).await
    }

    /// The last one of a publisher that stops: the next need not wait.
    pub(super) async fn release(
        mut self,
        store: &EventStreams,
        mark: Option<Position>,
    ) -> Result<(), SaveError> {
        self.position = mark.max(self.position);
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
        };
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: EVENT_TYPE.into(),
            data: serde_json::to_vec(&data)
                .expect("a struct of numbers can be written")
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
