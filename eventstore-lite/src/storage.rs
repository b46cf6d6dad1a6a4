//! The log on disk. One thread writes in groups, and separate connections read.
//!
//! Invariants: A change is answered only after its transaction is on disk. Positions rise in the order of commits and
//! are never reused, not even after a restart. Readers can read everything that they were told is committed.

mod catalog;
#[cfg(test)]
mod clocks;
mod copy;
mod copy_folder;
#[cfg(test)]
mod cost;
mod folder;
mod integrity;
mod ledger;
mod linking;
mod links;
mod migrations;
mod read_all;
mod read_stream;
mod readers;
mod reads;
mod recent;
mod records;
mod review;
mod rows;
mod scavenge;
mod schema;
mod shared;
mod statistics;
#[cfg(test)]
mod tests;
mod unusable;
mod visible;
mod wal_checkpoints;
mod writer;

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::Instant;
use uuid::Uuid;

use crate::append_rules::Expected;
use crate::config::Config;
use crate::event::{NewEvent, Position};
use crate::filter::InvalidFilter;
use crate::metrics::{Metrics, MetricsPage, to_u64};
use crate::stream_name::StreamName;

pub(crate) use catalog::StreamEntry;
pub(crate) use copy::{backup, restore};
use folder::Folder;
pub(crate) use integrity::verify;
use ledger::Ledger;
use linking::Backlog;
pub(crate) use read_all::{AllPage, AllRead, ScannedPosition};
pub(crate) use read_stream::{FollowPage, StreamFollow, StreamPage, StreamRead};
use readers::Readers;
pub(crate) use review::{ReadFrom, ReviewItem, Visibility};
pub(crate) use scavenge::ScavengeStart;
use scavenge::Scavenges;
use shared::SharedReads;
pub(crate) use statistics::statistics;
pub(crate) use writer::Receipt;
use writer::Writer;

/// The writer's page cache, as a multiple of a reader's. The writer touches the end of every index of every stream
/// that it writes.
const WRITER_CACHE: usize = 8;

/// A change to one stream.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) stream: StreamName,
    pub(crate) expected: Expected,
    pub(crate) change: Change,
    /// The change is not made after this time.
    pub(crate) deadline: Option<Instant>,
}

#[derive(Debug)]
pub(crate) enum Change {
    Append(Vec<NewEvent>),
    SoftDelete,
    Tombstone,
}

impl Change {
    fn ids(&self) -> impl Iterator<Item = Uuid> {
        let events = match self {
            Self::Append(events) => events.as_slice(),
            Self::SoftDelete | Self::Tombstone => &[],
        };
        events.iter().map(|event| event.id)
    }

    /// About how many bytes the change keeps in memory while it waits.
    fn size(&self) -> usize {
        match self {
            Self::Append(events) => events.iter().map(NewEvent::size).sum(),
            Self::SoftDelete | Self::Tombstone => 0,
        }
    }
}

/// The result of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The change is on disk, now or since an earlier attempt. The position is missing if readers cannot see the
    /// events any more.
    Written {
        revision: Option<u64>,
        position: Option<Position>,
    },
    WrongRevision {
        current: Option<u64>,
    },
    /// The changed stream, or the stream of its metadata, is deleted.
    StreamDeleted(StreamName),
    DeadlineExceeded,
    /// The disk is full. Nothing was written.
    DiskFull,
}

/// The disk or the writer thread failed. The reason is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the storage is not available")]
pub(crate) struct StorageFailed;

/// The open database.
pub(crate) struct Storage {
    writer: Writer,
    readers: Readers,
    scavenges: Scavenges,
    /// The part of the log that system streams do not link to yet.
    backlog: watch::Sender<Option<Backlog>>,
    /// Reads of new events that several subscribers share: of a stream, and of the log.
    follows: SharedReads<StreamFollow, FollowPage>,
    ends: SharedReads<(Position, usize), Result<AllPage, InvalidFilter>>,
}

impl Storage {
    /// Opens or creates the database. Fails if another process, or another server in this process, has it open.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let path = &config.db;
        let folder = Folder::take(path)?;
        copy::finish_restore(&folder, path)?;
        copy_folder::remove_leftovers(path);
        let connection = schema::open_writer(path, !config.unsafe_disable_flush_to_disk)
            .and_then(|connection| integrity::check_end(&connection).map(|()| connection))
            .with_context(|| format!("opening the database {}", schema::file(path).display()))?;
        folder.flush_entries()?;
        let page_cache = config.limits.page_cache;
        let of_writer = page_cache.saturating_mul(WRITER_CACHE);
        schema::bound_cache(&connection, of_writer).context("opening the database")?;
        let mut ledger = Ledger::open(connection).context("reading the state of the log")?;
        let backlog = if config.system_projections {
            let linked = ledger.linked().context("reading the state of the log")?;
            Backlog::new(linked, ledger.committed())
        } else {
            None
        };
        let merging = schema::open_to_merge(path, !config.unsafe_disable_flush_to_disk)
            .context("opening the database to merge its log")?;
        let readers = Readers::open(path, config.limits.readers, page_cache)
            .context("opening the database to read")?;
        let merging = (merging, readers.slots().clone());
        let writer = Writer::start(ledger, merging, folder.lock, &config.limits)?;
        Ok(Self {
            writer,
            readers,
            scavenges: Scavenges::default(),
            backlog: watch::Sender::new(backlog),
            follows: SharedReads::new(),
            ends: SharedReads::new(),
        })
    }

    /// Queues a change. Changes of one caller are made in the order of these calls. Waits while the queue is full.
    pub(crate) async fn submit(&self, write: Write) -> Result<Receipt, StorageFailed> {
        self.writer.submit(write).await
    }

    /// Reserves memory for `bytes` of an append whose last piece has not arrived, if there is room. All sessions
    /// together may reserve as many bytes as the queue of the writer holds.
    pub(crate) fn room_for_unfinished(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.writer.room_for_unfinished(bytes)
    }

    /// Makes a change and returns when it is on disk.
    pub(crate) async fn write(&self, write: Write) -> Result<Outcome, StorageFailed> {
        self.submit(write).await?.outcome().await
    }

    /// The counters of this storage and of its users.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        self.writer.metrics()
    }

    /// Writes the figures that are measured on request.
    pub(crate) async fn write_figures(&self, page: &mut MetricsPage) {
        let (changes, bytes) = self.writer.queued();
        page.family(
            "eventstore_writer_queue_length",
            "gauge",
            "Changes that wait to be written.",
        )
        .sample("", to_u64(changes));
        page.family(
            "eventstore_writer_queue_bytes",
            "gauge",
            "Bytes of changes that wait or are being written.",
        )
        .sample("", to_u64(bytes));
        page.family(
            "eventstore_checkpoints",
            "gauge",
            "The last committed position.",
        )
        .sample("{name=\"writer\",read=\"flushed\"}", self.committed().0);
        page.family(
            "eventstore_db_size_bytes",
            "gauge",
            "The database and its write-ahead log.",
        );
        for (name, size) in self.readers.sizes().await {
            page.sample(&format!("{{file=\"{name}\"}}"), size);
        }
        page.family(
            "eventstore_db_reads",
            "counter",
            "Reads of the database. Events that are still in memory are not read there.",
        )
        .sample("", self.readers.count());
        let missing = self.backlog().map_or(0, Backlog::missing);
        page.family(
            "eventstore_system_streams_missing",
            "gauge",
            "Places of the log that system streams do not link to yet.",
        )
        .sample("", missing);
        self.scavenges.write_to(page);
    }

    /// Whether the writer thread is running.
    pub(crate) fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    /// The last committed position. Every answered append is at or before it.
    pub(crate) fn committed(&self) -> Position {
        self.writer.recent().version().head
    }

    /// Changes after every commit, once its appends are answered.
    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.writer.heads().all()
    }

    /// Like [`Storage::head`], but changes only after commits that may have changed the stream.
    pub(crate) fn head_of(&self, stream: &StreamName) -> watch::Receiver<Position> {
        self.writer.heads().of(stream)
    }

    /// Stops a running scavenge, lets the writer finish its queue, and closes the database.
    pub(crate) async fn close(&self) {
        if let Some(scavenge) = self.last_scavenge() {
            scavenge.stop().await;
        }
        self.writer.stop().await;
    }
}
