//! Connections that read beside the writer. A read sees one state of the database throughout, and runs on
//! a thread where it may block.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Result};
use tokio::sync::Semaphore;

use super::{StorageFailed, schema};

pub(super) struct Readers {
    folder: PathBuf,
    page_cache: usize,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Arc<Semaphore>,
    count: AtomicU64,
}

impl Readers {
    /// At most `connections` at once, others wait; each keeps at most `page_cache` bytes in memory.
    pub(super) fn open(folder: &Path, connections: usize, page_cache: usize) -> Result<Self> {
        let first = connect(folder, page_cache)?;
        Ok(Self {
            folder: folder.to_owned(),
            page_cache,
            idle: Arc::new(Mutex::new(vec![first])),
            permits: Arc::new(Semaphore::new(connections)),
            count: AtomicU64::new(0),
        })
    }

    pub(super) async fn run<T, F>(&self, read: F) -> std::result::Result<T, StorageFailed>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        self.count.fetch_add(1, Relaxed);
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let permit = permit.map_err(|_| StorageFailed)?;
        let (idle, folder) = (Arc::clone(&self.idle), self.folder.clone());
        let page_cache = self.page_cache;
        let done = tokio::task::spawn_blocking(move || {
            // Of the read and not of its caller, who may be gone while it goes on.
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

    /// How often it was read.
    pub(super) fn count(&self) -> u64 {
        self.count.load(Relaxed)
    }

    /// The sizes of the files in bytes; one that is not there has none.
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
mod tests {
    use std::sync::mpsc;

    use super::*;

    const CONNECTIONS: usize = 8;

    #[tokio::test]
    async fn reads_whose_callers_are_gone_still_count() {
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
        assert_eq!(readers.permits.available_permits(), 0);
        drop(blocked);
        next.await.unwrap();
        assert!(lock(&readers.idle).len() <= CONNECTIONS);
    }
}
