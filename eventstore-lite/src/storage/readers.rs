//! Connections that read beside the writer. Each read sees one state of the database and runs on a blocking thread.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Result};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{StorageFailed, schema};

pub(super) struct Readers {
    folder: PathBuf,
    page_cache: usize,
    idle: Arc<Mutex<Vec<Connection>>>,
    slots: ReadSlots,
    count: AtomicU64,
}

/// The slots for concurrent reads.
#[derive(Clone)]
pub(super) struct ReadSlots {
    permits: Arc<Semaphore>,
    count: u32,
}

/// No read runs while this exists.
pub(super) struct ReadPause {
    _all: OwnedSemaphorePermit,
}

impl ReadSlots {
    fn new(count: usize) -> Self {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        Self {
            permits: Arc::new(Semaphore::new(count as usize)),
            count,
        }
    }

    async fn take_one(&self) -> std::result::Result<OwnedSemaphorePermit, StorageFailed> {
        let take_one = Arc::clone(&self.permits).acquire_owned();
        take_one.await.map_err(|_| StorageFailed)
    }

    /// Whether no read can begin, because all slots are taken or somebody waits for [`ReadSlots::pause`].
    #[cfg(test)]
    pub(super) fn are_taken(&self) -> bool {
        self.permits.available_permits() == 0
    }

    /// Waits for running reads to end. Later reads wait until the returned value is dropped. Reads are short, so
    /// others wait only for a moment. Slots are granted in order, so this call gets its turn however many readers
    /// there are.
    pub(super) async fn pause(&self) -> std::result::Result<ReadPause, StorageFailed> {
        let all = Arc::clone(&self.permits).acquire_many_owned(self.count);
        let all = all.await.map_err(|_| StorageFailed)?;
        Ok(ReadPause { _all: all })
    }
}

impl Readers {
    /// Allows at most `connections` concurrent reads; others wait. Each connection caches at most `page_cache` bytes.
    pub(super) fn open(folder: &Path, connections: usize, page_cache: usize) -> Result<Self> {
        let first = connect(folder, page_cache)?;
        Ok(Self {
            folder: folder.to_owned(),
            page_cache,
            idle: Arc::new(Mutex::new(vec![first])),
            slots: ReadSlots::new(connections),
            count: AtomicU64::new(0),
        })
    }

    pub(super) async fn run<T, F>(&self, read: F) -> std::result::Result<T, StorageFailed>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.count.fetch_add(1, Relaxed);
        let permit = self.slots.take_one().await?;
        let (idle, folder) = (Arc::clone(&self.idle), self.folder.clone());
        let page_cache = self.page_cache;
        let done = tokio::task::spawn_blocking(move || {
            // The permit belongs to the read, not to its caller: the read continues if the caller has gone.
            let _permit = permit;
            let taken = lock(&idle).pop();
            let connection = taken.map_or_else(|| connect(&folder, page_cache), Ok)?;
            let transaction = connection.unchecked_transaction()?;
            let result = read(&transaction)?;
            transaction.finish()?;
            lock(&idle).push(connection);
            Ok(result)
        });
        let result: Result<T> = done.await.map_err(|_| StorageFailed)?;
        result.map_err(|error| {
            tracing::error!(%error, "a read failed");
            StorageFailed
        })
    }

    pub(super) fn slots(&self) -> &ReadSlots {
        &self.slots
    }

    /// The number of reads so far.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The sizes of the files in bytes; 0 for a missing file.
    pub(super) async fn sizes(&self) -> Vec<(&'static str, u64)> {
        let files = schema::files(&self.folder);
        let sizes = tokio::task::spawn_blocking(move || {
            let size = |path: PathBuf| path.metadata().map_or(0, |file| file.len());
            files.map(|(name, path)| (name, size(path))).to_vec()
        });
        sizes.await.unwrap_or_default()
    }
}

fn connect(folder: &Path, page_cache: usize) -> Result<Connection> {
    let connection = schema::open_reader(folder)?;
    schema::bound_cache(&connection, page_cache)?;
    Ok(connection)
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
pub(super) mod turns;

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use crate::storage::wal_checkpoints::WalCheckpoints;

    const CONNECTIONS: usize = 8;

    #[tokio::test]
    async fn a_read_takes_its_slot_until_it_ends_even_if_its_caller_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        drop(schema::open_writer(folder.path(), false).unwrap());
        let readers = Arc::new(Readers::open(folder.path(), CONNECTIONS, 1024 * 1024).unwrap());
        let (started, mut reading) = tokio::sync::mpsc::channel(CONNECTIONS);
        let mut blocked = Vec::new();
        for _ in 0..CONNECTIONS {
            let (release, released) = mpsc::channel::<()>();
            let (readers, started) = (Arc::clone(&readers), started.clone());
            let caller = tokio::spawn(async move {
                let read = readers.run(move |_| {
                    started.blocking_send(()).unwrap();
                    assert!(released.recv().is_err());
                    Ok(())
                });
                read.await
            });
            reading.recv().await.unwrap();
            caller.abort();
            assert!(caller.await.unwrap_err().is_cancelled());
            blocked.push(release);
        }
        let mut next = std::pin::pin!(readers.run(|_| Ok(())));
        assert!(futures::poll!(&mut next).is_pending());
        assert_eq!(readers.slots.permits.available_permits(), 0);
        drop(blocked);
        next.await.unwrap();
        assert!(lock(&readers.idle).len() <= CONNECTIONS);
    }

    /// Groups of about 32 pages. 384 groups fill the log.
    const GROUPS: u64 = 1200;
    const GROUP: &str = "INSERT INTO filler VALUES (zeroblob(32 * 4096))";
    const MOST_BYTES: u64 = 2 * 48 * 1024 * 1024;

    #[tokio::test(flavor = "multi_thread")]
    async fn the_log_restarts_although_readers_take_turns() {
        let folder = tempfile::tempdir().unwrap();
        let writer = schema::open_writer(folder.path(), false).unwrap();
        let readers = Arc::new(Readers::open(folder.path(), CONNECTIONS, 1024 * 1024).unwrap());
        let merging = schema::open_to_merge(folder.path(), false).unwrap();
        let mut checkpoints =
            WalCheckpoints::start(merging, readers.slots().clone(), || ()).unwrap();
        WalCheckpoints::watch(&writer);
        writer
            .execute_batch("CREATE TABLE filler (data BLOB)")
            .unwrap();
        let turns = turns::take(&readers).await;
        let [_, (_, log)] = schema::files(folder.path());
        let written = tokio::task::spawn_blocking(move || {
            let mut longest = 0;
            for _ in 0..GROUPS {
                writer.execute_batch(GROUP).unwrap();
                checkpoints.after_commit(&writer);
                longest = longest.max(log.metadata().unwrap().len());
            }
            checkpoints.stop();
            longest
        });
        let longest = written.await.unwrap();
        assert!(turns.end().await > 10, "the readers kept reading");
        assert!(longest < MOST_BYTES, "{longest} bytes");
    }
}
