//! The log on disk: one thread that writes, in groups, and connections beside it that read.
//!
//! Invariants: a change is answered only after the transaction that holds it is on disk; positions rise in
//! the order of commits and are never given out twice, also after a restart; what a reader was told is
//! committed, it can read.

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

/// How many times the memory of a reader the writer has for pages of the database: it visits the end of every
/// index of every stream that is written.
const WRITER_CACHE: usize = 8;

/// A change of one stream.
#[derive(Debug)]
pub(crate) struct Write {
    pub(crate) stream: StreamName,
    pub(crate) expected: Expected,
    pub(crate) change: Change,
    /// After this the change is not made any more.
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

    /// The bytes it keeps in memory while it waits, about.
    fn size(&self) -> usize {
        match self {
            Self::Append(events) => events.iter().map(NewEvent::size).sum(),
            Self::SoftDelete | Self::Tombstone => 0,
        }
    }
}

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is on disk, now or since earlier; without a position if it cannot be seen any more.
    Written {
        revision: Option<u64>,
        position: Option<Position>,
    },
    WrongRevision {
        current: Option<u64>,
    },
    /// This stream is deleted: the one to be changed, or the one of its metadata.
    StreamDeleted(StreamName),
    DeadlineExceeded,
    /// There is no room for it on the disk, now. Nothing of it is written.
    DiskFull,
}

/// The disk, or the thread that writes to it, failed; the reason is in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the storage is not available")]
pub(crate) struct StorageFailed;

/// The open database.
pub(crate) struct Storage {
    writer: Writer,
    readers: Readers,
    scavenges: Scavenges,
    /// What is missing of the links of system streams.
    backlog: watch::Sender<Option<Backlog>>,
    /// Reads of what comes next of a stream, and of the log.
    follows: SharedReads<StreamFollow, FollowPage>,
    ends: SharedReads<(Position, usize), Result<AllPage, InvalidFilter>>,
}

impl Storage {
    /// Opens or makes the database; fails if another process, or another server in this one, has it open.
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

    /// Queues a change; changes of one caller are made in the order of these calls. Waits while too much
    /// is queued.
    pub(crate) async fn submit(&self, write: Write) -> Result<Receipt, StorageFailed> {
        self.writer.submit(write).await
    }

    /// Room in memory for so many bytes of an append whose last piece has not come, if there is some; those of all
    /// sessions together have as much as what waits to be written.
    pub(crate) fn room_for_unfinished(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        self.writer.room_for_unfinished(bytes)
    }

    /// Makes a change and answers when it is on disk.
    pub(crate) async fn write(&self, write: Write) -> Result<Outcome, StorageFailed> {
        self.submit(write).await?.outcome().await
    }

    /// What is counted here and by those who use it.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        self.writer.metrics()
    }

    /// The figures that are looked up when they are asked for.
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
            "Bytes that wait or are written.",
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
            "Reads of the database; what is still in memory is not read there.",
        )
        .sample("", self.readers.count());
        let missing = self.backlog().map_or(0, Backlog::missing);
        page.family(
            "eventstore_system_streams_missing",
            "gauge",
            "Places of the log whose links system streams do not have yet.",
        )
        .sample("", missing);
        self.scavenges.write_to(page);
    }

    /// Whether changes can be made.
    pub(crate) fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    /// The last committed position: an append that was answered is not beyond it.
    pub(crate) fn committed(&self) -> Position {
        self.writer.recent().version().head
    }

    /// Changes soon after every commit, once its appends are answered.
    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.writer.heads().all()
    }

    /// The same, after commits that may have changed the stream.
    pub(crate) fn head_of(&self, stream: &StreamName) -> watch::Receiver<Position> {
        self.writer.heads().of(stream)
    }

    /// Ends a scavenge, then the writer after what is queued, and closes the database.
    pub(crate) async fn close(&self) {
        if let Some(scavenge) = self.last_scavenge() {
            scavenge.stop().await;
        }
        self.writer.stop().await;
    }
}
