//! Connections that read beside the writer. A read sees one state of the database throughout, and runs on
//! a thread where it may block.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, Result};
use tokio::sync::Semaphore;

use super::{StorageFailed, schema};

/// The most reads at once; others wait.
const CONNECTIONS: usize = 8;

pub(super) struct Readers {
    folder: PathBuf,
    idle: Arc<Mutex<Vec<Connection>>>,
    permits: Semaphore,
}

impl Readers {
    pub(super) fn open(folder: &Path) -> Result<Self> {
        let first = schema::open_reader(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            idle: Arc::new(Mutex::new(vec![first])),
            permits: Semaphore::new(CONNECTIONS),
        })
    }

    pub(super) async fn run<T, F>(&self, read: F) -> std::result::Result<T, StorageFailed>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        let _permit = self.permits.acquire().await.map_err(|_| StorageFailed)?;
        let (idle, folder) = (Arc::clone(&self.idle), self.folder.clone());
        let done = tokio::task::spawn_blocking(move || {
            let taken = lock(&idle).pop();
            let connection = taken.map_or_else(|| schema::open_reader(&folder), Ok)?;
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
}

fn lock(idle: &Mutex<Vec<Connection>>) -> std::sync::MutexGuard<'_, Vec<Connection>> {
    idle.lock().unwrap_or_else(PoisonError::into_inner)
}
