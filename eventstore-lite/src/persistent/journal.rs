//! The streams of one group, for its checkpoints and its parked events. They hold ordinary events.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::group::Message;
use super::settings::GroupKey;
use super::stored_events::{self, Replayed};
use crate::append_rules::Expected;
use crate::clock;
use crate::event::{Direction, NewEvent, ResolvedEvent};
use crate::storage::{Change, Outcome, Storage, StorageFailed, StreamPage, StreamRead, Write};
use crate::stream_name::StreamName;

/// Some of the parked events, each with its revision, and the next revision to read.
pub(super) struct ParkedEvents {
    pub(super) list: Vec<(u64, ResolvedEvent)>,
    pub(super) next: u64,
    /// Whether the stream of parked events was deleted.
    pub(super) is_gone: bool,
}

/// The range of revisions of the parked events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct ParkedRange {
    pub(super) first: u64,
    /// The revision after the last.
    pub(super) end: u64,
}

pub(super) struct Journal {
    storage: Arc<Storage>,
    key: GroupKey,
    checkpoints: StreamName,
    parked: StreamName,
    has_checkpoints: bool,
}

impl Journal {
    pub(super) fn new(storage: Arc<Storage>, key: GroupKey) -> Self {
        Self {
            storage,
            checkpoints: stored_events::checkpoint_stream(&key),
            parked: stored_events::parked_stream(&key),
            key,
            has_checkpoints: false,
        }
    }

    /// The last checkpoint, if there is one.
    pub(super) async fn checkpoint(&mut self) -> Result<Option<u64>, StorageFailed> {
        let last = last_event(&self.storage, self.checkpoints.clone()).await?;
        self.has_checkpoints = last.is_some();
        let last = last.and_then(|last| last.event);
        Ok(last.and_then(|last| stored_events::parse_checkpoint(&self.key.source, &last.data)))
    }

    pub(super) async fn write_checkpoint(&mut self, place: u64) -> Result<(), StorageFailed> {
        if !self.has_checkpoints {
            let metastream = self.checkpoints.metastream();
            append(
                &self.storage,
                metastream,
                vec![stored_events::keep_two_events()],
            )
            .await?;
            self.has_checkpoints = true;
        }
        let event = stored_events::checkpoint_event(&self.key.source, place);
        append(&self.storage, self.checkpoints.clone(), vec![event]).await?;
        Ok(())
    }

    /// The range of parked events. If the stream was deleted, only events after its end will count.
    pub(super) async fn parked(&self) -> Result<ParkedRange, StorageFailed> {
        let page = self.parked_page(0, 1).await?;
        let StreamPage::Events {
            events,
            forwards,
            last,
            ..
        } = page
        else {
            let last = self.storage.last_revision(self.parked.clone()).await?;
            let end = last.unwrap_or(None).map_or(0, |last| last + 1);
            return Ok(ParkedRange { first: end, end });
        };
        let first = events.first().and_then(revision);
        Ok(ParkedRange {
            first: first.unwrap_or(forwards),
            end: last + 1,
        })
    }

    /// The replayed events that are not settled.
    pub(super) async fn replayed(&self) -> Result<BTreeMap<u64, Replayed>, StorageFailed> {
        let metadata = last_event(&self.storage, self.parked.metastream()).await?;
        let metadata = metadata.and_then(|metadata| metadata.event);
        let replayed = metadata.map(|metadata| stored_events::parse_replayed(&metadata.data));
        Ok(replayed.unwrap_or_default())
    }

    /// Parks events by writing links to them. Returns the revision after the last, if it is known.
    pub(super) async fn park(
        &self,
        events: &[(Message, String)],
    ) -> Result<Option<u64>, StorageFailed> {
        let now = clock::now();
        let link = |(message, reason): &(Message, String)| {
            stored_events::parked(&message.event, reason, now).map_err(|error| {
                tracing::error!(%error, "an event cannot be parked");
                StorageFailed
            })
        };
        let links: Result<Vec<NewEvent>, _> = events.iter().map(link).collect();
        self.append_parked(links?).await
    }

    /// Appends to the stream of parked events. Returns the revision after the last, if it is known.
    pub(super) async fn append_parked(
        &self,
        links: Vec<NewEvent>,
    ) -> Result<Option<u64>, StorageFailed> {
        let last = append(&self.storage, self.parked.clone(), links).await?;
        Ok(last.map(|last| last + 1))
    }

    pub(super) async fn parked_events(
        &self,
        from: u64,
        limit: u64,
    ) -> Result<ParkedEvents, StorageFailed> {
        let page = self.parked_page(from, limit).await?;
        let StreamPage::Events {
            events, forwards, ..
        } = page
        else {
            return Ok(ParkedEvents {
                list: Vec::new(),
                next: u64::MAX,
                is_gone: true,
            });
        };
        let numbered = |event: ResolvedEvent| Some((revision(&event)?, event));
        Ok(ParkedEvents {
            list: events.into_iter().filter_map(numbered).collect(),
            next: forwards,
            is_gone: false,
        })
    }

    /// Truncates the stream of parked events before this revision, and records the replayed events.
    pub(super) async fn truncate_parked(
        &self,
        revision: u64,
        replayed: &BTreeMap<u64, Replayed>,
    ) -> Result<(), StorageFailed> {
        let metastream = self.parked.metastream();
        let metadata = stored_events::parked_metadata(revision, replayed).map_err(|error| {
            tracing::error!(%error, "replayed events cannot be recorded");
            StorageFailed
        })?;
        append(&self.storage, metastream, vec![metadata]).await?;
        Ok(())
    }

    async fn parked_page(&self, from: u64, limit: u64) -> Result<StreamPage, StorageFailed> {
        let read = StreamRead {
            stream: self.parked.clone(),
            direction: Direction::Forwards,
            from,
            limit: limit.max(1),
            resolve_links: true,
        };
        self.storage.read_stream(read).await
    }
}

fn revision(event: &ResolvedEvent) -> Option<u64> {
    let read = event.link.as_ref().or(event.event.as_ref());
    read.map(|read| read.revision)
}

/// The last visible event of a stream.
pub(super) async fn last_event(
    storage: &Storage,
    stream: StreamName,
) -> Result<Option<ResolvedEvent>, StorageFailed> {
    match storage.read_stream(backwards(stream)).await? {
        StreamPage::Events { mut events, .. } => Ok(events.pop()),
        StreamPage::Missing | StreamPage::Tombstoned => Ok(None),
    }
}

/// A read of the last event.
fn backwards(stream: StreamName) -> StreamRead {
    StreamRead {
        stream,
        direction: Direction::Backwards,
        from: u64::MAX,
        limit: 1,
        resolve_links: false,
    }
}

/// Whether the stream exists. It may have no visible events, but metadata that records replayed events.
async fn is_there(storage: &Storage, stream: StreamName) -> Result<bool, StorageFailed> {
    let page = storage.read_stream(backwards(stream)).await?;
    Ok(matches!(page, StreamPage::Events { .. }))
}

/// Appends to a stream of the server. Returns the revision of the last event. If somebody tombstoned the stream, its
/// events are lost: that is logged, and nothing else can be done. A full disk may recover.
pub(super) async fn append(
    storage: &Storage,
    stream: StreamName,
    events: Vec<NewEvent>,
) -> Result<Option<u64>, StorageFailed> {
    let write = Write {
        stream,
        expected: Expected::Any,
        change: Change::Append(events),
        deadline: None,
    };
    match storage.write(write).await? {
        Outcome::Written { revision, .. } => Ok(revision),
        Outcome::DiskFull => Err(StorageFailed),
        refused @ (Outcome::StreamDeleted(_)
        | Outcome::WrongRevision { .. }
        | Outcome::DeadlineExceeded) => {
            tracing::error!(?refused, "a stream of a persistent subscription is gone");
            Ok(None)
        }
    }
}

/// Deletes the state of an earlier group of this name.
pub(super) async fn clear(storage: &Storage, key: &GroupKey) -> Result<(), StorageFailed> {
    for stream in [
        stored_events::checkpoint_stream(key),
        stored_events::parked_stream(key),
    ] {
        if !is_there(storage, stream.clone()).await? {
            continue;
        }
        let write = Write {
            stream,
            expected: Expected::Any,
            change: Change::SoftDelete,
            deadline: None,
        };
        if storage.write(write).await? == Outcome::DiskFull {
            return Err(StorageFailed);
        }
    }
    Ok(())
}
