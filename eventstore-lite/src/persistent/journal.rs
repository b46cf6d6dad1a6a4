//! The streams of one group: its checkpoints and its parked events, read and written as ordinary events.

use std::sync::Arc;

use super::group::Message;
use super::records;
use super::settings::GroupKey;
use crate::append_rules::Expected;
use crate::clock;
use crate::event::{Direction, NewEvent, ResolvedEvent};
use crate::storage::{Change, Outcome, Storage, StorageFailed, StreamPage, StreamRead, Write};
use crate::stream_name::StreamName;

/// The revisions of the events that are parked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Parked {
    pub(super) first: u64,
    /// After the last.
    pub(super) end: u64,
}

impl Parked {
    pub(super) fn count(self) -> u64 {
        self.end.saturating_sub(self.first)
    }
}

/// Some of the parked events, each with its revision, and the revision to go on with.
pub(super) struct ParkedEvents {
    pub(super) list: Vec<(u64, ResolvedEvent)>,
    pub(super) next: u64,
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
            checkpoints: records::checkpoint_stream(&key),
            parked: records::parked_stream(&key),
            key,
            has_checkpoints: false,
        }
    }

    /// The last checkpoint, if there is one.
    pub(super) async fn checkpoint(&mut self) -> Result<Option<u64>, StorageFailed> {
        let last = last_event(&self.storage, self.checkpoints.clone()).await?;
        self.has_checkpoints = last.is_some();
        let last = last.and_then(|last| last.event);
        Ok(last.and_then(|last| records::parse_checkpoint(&self.key.source, &last.data)))
    }

    pub(super) async fn write_checkpoint(&mut self, place: u64) -> Result<(), StorageFailed> {
        if !self.has_checkpoints {
            let metastream = self.checkpoints.metastream();
            append(&self.storage, metastream, vec![records::keeps_two()]).await?;
            self.has_checkpoints = true;
        }
        let event = records::checkpointed(&self.key.source, place);
        append(&self.storage, self.checkpoints.clone(), vec![event]).await?;
        Ok(())
    }

    /// Which events are parked.
    pub(super) async fn parked(&self) -> Result<Parked, StorageFailed> {
        let page = self.parked_page(0, 1).await?;
        let StreamPage::Events {
            events,
            forwards,
            last,
            ..
        } = page
        else {
            return Ok(Parked::default());
        };
        let first = events.first().and_then(revision);
        Ok(Parked {
            first: first.unwrap_or(forwards),
            end: last + 1,
        })
    }

    /// Writes links to the events and returns the revision after the last, if it can be told.
    pub(super) async fn park(
        &self,
        events: &[(Message, String)],
    ) -> Result<Option<u64>, StorageFailed> {
        let now = clock::now();
        let link = |(message, reason): &(Message, String)| {
            records::parked(&message.event, reason, now).map_err(|error| {
                tracing::error!(%error, "an event could not be parked");
                StorageFailed
            })
        };
        let links: Result<Vec<NewEvent>, _> = events.iter().map(link).collect();
        let last = append(&self.storage, self.parked.clone(), links?).await?;
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
            });
        };
        let numbered = |event: ResolvedEvent| Some((revision(&event)?, event));
        Ok(ParkedEvents {
            list: events.into_iter().filter_map(numbered).collect(),
            next: forwards,
        })
    }

    /// Takes off all parked events before this revision.
    pub(super) async fn truncate_parked(&self, revision: u64) -> Result<(), StorageFailed> {
        let metastream = self.parked.metastream();
        let metadata = records::truncated_before(revision);
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

/// The last event of a stream, if any can be seen.
pub(super) async fn last_event(
    storage: &Storage,
    stream: StreamName,
) -> Result<Option<ResolvedEvent>, StorageFailed> {
    let read = StreamRead {
        stream,
        direction: Direction::Backwards,
        from: u64::MAX,
        limit: 1,
        resolve_links: false,
    };
    match storage.read_stream(read).await? {
        StreamPage::Events { mut events, .. } => Ok(events.pop()),
        StreamPage::Missing | StreamPage::Tombstoned => Ok(None),
    }
}

/// Appends to a stream of the server's own and returns the revision of the last event. Whoever tombstones such a
/// stream loses what would be in it: it is logged, and nothing else can be done. A full disk may be so for a while.
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

/// Deletes what groups of this name kept before.
pub(super) async fn clear(storage: &Storage, key: &GroupKey) -> Result<(), StorageFailed> {
    for stream in [records::checkpoint_stream(key), records::parked_stream(key)] {
        if last_event(storage, stream.clone()).await?.is_none() {
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
