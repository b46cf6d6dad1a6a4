//! The log on disk: one thread that writes, in groups, and connections beside it that read.
//!
//! Invariants: a change is answered only after the transaction that holds it is on disk; positions rise in
//! the order of commits and are never given out twice, also after a restart; what a reader was told is
//! committed, it can read.

mod ledger;
mod links;
mod migrations;
mod read_all;
mod read_stream;
mod readers;
mod rows;
mod scavenge;
mod schema;
#[cfg(test)]
mod tests;
mod visible;
mod writer;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::time::Instant;
use uuid::Uuid;

use crate::append_rules::Expected;
use crate::config::Config;
use crate::event::{NewEvent, Position};
use crate::filter::InvalidFilter;
use crate::metrics::{Metrics, Page, wide};
use crate::stream_name::StreamName;

pub(crate) use read_all::{AllPage, AllRead};
pub(crate) use read_stream::{Followed, StreamFollow, StreamPage, StreamRead, Tombstoned};
use readers::Readers;
use scavenge::Scavenges;
pub(crate) use scavenge::Start;
pub(crate) use writer::Receipt;
use writer::Writer;

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
}

/// The disk, or the thread that writes to it, failed; the reason is in the log.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("the storage is not available")]
pub(crate) struct StorageFailed;

/// The folder, absolute, and those above it whose entries change when it is made. Its own entry is flushed in
/// any case: the process that made it may have ended before that.
fn with_changed_parents(folder: &Path) -> Result<Vec<PathBuf>> {
    let folder = std::path::absolute(folder)?;
    let missing = folder.ancestors().take_while(|folder| !folder.is_dir());
    let changed = 1 + missing.count().max(1);
    Ok(folder
        .ancestors()
        .take(changed)
        .map(Path::to_owned)
        .collect())
}

/// A file that is on disk can be found after a power cut only if the entries of all folders on the way are too.
fn flush_entries(folders: &[PathBuf]) -> Result<()> {
    for folder in folders {
        let flushed = File::open(folder).and_then(|folder| folder.sync_all());
        flushed.with_context(|| format!("flushing the folder {}", folder.display()))?;
    }
    Ok(())
}

/// The open database.
pub(crate) struct Storage {
    writer: Writer,
    readers: Readers,
    scavenges: Scavenges,
}

impl Storage {
    /// Opens or makes the database; fails if another process, or another server in this one, has it open.
    pub(crate) fn open(config: &Config) -> Result<Self> {
        let folder = &config.db;
        let changed = with_changed_parents(folder)
            .with_context(|| format!("finding the folder {}", folder.display()))?;
        std::fs::create_dir_all(folder)
            .with_context(|| format!("making the folder {}", folder.display()))?;
        let lock = File::create(folder.join("lock")).context("creating the lock file")?;
        lock.try_lock()
            .with_context(|| format!("{} is in use by another server", folder.display()))?;
        let connection = schema::open_writer(folder, !config.unsafe_disable_flush_to_disk);
        flush_entries(&changed)?;
        let connection = connection.context("opening the database")?;
        let page_cache = config.limits.page_cache;
        schema::bound_cache(&connection, page_cache).context("opening the database")?;
        let writer = Writer::start(connection, lock, config.limits.queued_bytes)?;
        let readers = Readers::open(folder, config.limits.readers, page_cache)
            .context("opening the database to read")?;
        Ok(Self {
            writer,
            readers,
            scavenges: Scavenges::default(),
        })
    }

    /// Queues a change; changes of one caller are made in the order of these calls. Waits while too much
    /// is queued.
    pub(crate) async fn submit(&self, write: Write) -> Result<Receipt, StorageFailed> {
        self.writer.submit(write).await
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
    pub(crate) async fn write_figures(&self, page: &mut Page) {
        let (changes, bytes) = self.writer.queued();
        page.family(
            "eventstore_writer_queue_length",
            "gauge",
            "Changes that wait to be written.",
        )
        .sample("", wide(changes));
        page.family(
            "eventstore_writer_queue_bytes",
            "gauge",
            "Bytes that wait or are written.",
        )
        .sample("", wide(bytes));
        page.family(
            "eventstore_checkpoints",
            "gauge",
            "The last committed position.",
        )
        .sample("{name=\"writer\",read=\"flushed\"}", self.head().borrow().0);
        page.family(
            "eventstore_db_size_bytes",
            "gauge",
            "The database and its write-ahead log.",
        );
        for (name, size) in self.readers.sizes().await {
            page.sample(&format!("{{file=\"{name}\"}}"), size);
        }
    }

    /// Whether changes can be made.
    pub(crate) fn is_alive(&self) -> bool {
        self.writer.is_alive()
    }

    /// The last committed position; it changes with every commit.
    pub(crate) fn head(&self) -> watch::Receiver<Position> {
        self.writer.heads().all()
    }

    /// Changes whenever the stream may have changed.
    pub(crate) fn head_of(&self, stream: &StreamName) -> watch::Receiver<Position> {
        self.writer.heads().of(stream)
    }

    /// Reads one page of a stream.
    pub(crate) async fn read_stream(&self, read: StreamRead) -> Result<StreamPage, StorageFailed> {
        self.readers
            .run(move |connection| read_stream::read(connection, &read))
            .await
    }

    /// Reads what a subscription to a stream has not had.
    pub(crate) async fn follow_stream(
        &self,
        follow: StreamFollow,
    ) -> Result<Followed, StorageFailed> {
        self.readers
            .run(move |connection| read_stream::follow(connection, &follow))
            .await
    }

    /// The revision of the last event of a stream, if it has one.
    pub(crate) async fn end_of(
        &self,
        stream: StreamName,
    ) -> Result<Result<Option<u64>, Tombstoned>, StorageFailed> {
        self.readers
            .run(move |connection| read_stream::end(connection, &stream))
            .await
    }

    /// Reads one page of the log.
    pub(crate) async fn read_all(
        &self,
        read: AllRead,
    ) -> Result<Result<AllPage, InvalidFilter>, StorageFailed> {
        self.readers
            .run(move |connection| read_all::read(connection, &read))
            .await
    }

    /// Ends a scavenge, then the writer after what is queued, and closes the database.
    pub(crate) async fn close(&self) {
        if let Some(scavenge) = self.last_scavenge() {
            scavenge.stop().await;
        }
        self.writer.stop().await;
    }
}
