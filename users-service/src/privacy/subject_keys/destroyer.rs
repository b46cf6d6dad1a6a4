//! The task that destroys keys. It destroys all waiting keys in one write, so that concurrent deletions do not contend for
//! the database or its write-ahead log.
//!
//! Invariant: before a request is answered, its key is on the list of destroyed keys, and in no file of the database or its
//! write-ahead log.

use super::key_database::KeyDatabase;
use super::key_forgetting::{Failure, forget};
use super::{KeyId, KeysError};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};

/// The most keys that are destroyed in one write, and the most requests that wait.
const BATCH: usize = 256;
/// How often a write is attempted before the waiting requests fail.
const ATTEMPTS: u32 = 3;

/// The sender of requests to the task.
#[derive(Debug)]
pub(super) struct Destroyer(mpsc::Sender<Request>);

#[derive(Debug)]
struct Request {
    key: KeyId,
    destroyed: oneshot::Sender<()>,
}

impl Destroyer {
    /// Starts the task. It ends when this value is dropped.
    pub(super) fn start(database: KeyDatabase) -> Self {
        let (requests, waiting) = mpsc::channel(BATCH);
        tokio::spawn(run(database, waiting));
        Self(requests)
    }

    pub(super) async fn destroy(&self, key: KeyId) -> Result<(), KeysError> {
        let (destroyed, done) = oneshot::channel();
        let request = Request { key, destroyed };
        let failed = KeysError::NotDestroyed(key);
        if self.0.send(request).await.is_err() {
            return Err(failed);
        }
        done.await.map_err(|_| failed)
    }
}

async fn run(database: KeyDatabase, mut waiting: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        match destroy_all(&database, &batch).await {
            Ok(()) => {
                for request in batch.drain(..) {
                    // The key is destroyed even if the requester has gone away.
                    let _ = request.destroyed.send(());
                }
            }
            Err(error) => {
                tracing::warn!(%error, keys = batch.len(), "keys were not destroyed");
                batch.clear();
            }
        }
    }
}

async fn destroy_all(database: &KeyDatabase, batch: &[Request]) -> Result<(), Failure> {
    let mut keys: Vec<_> = batch.iter().map(|request| request.key).collect();
    // Two processes that put the same ids on the list in different orders would wait for each other.
    keys.sort_unstable();
    let mut attempt = 1;
    loop {
        match try_destroy_all(database, &keys).await {
            Err(error) if attempt < ATTEMPTS => {
                tracing::debug!(%error, "keys were not destroyed; this is retried");
            }
            outcome => return outcome,
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..=25))).await;
    }
}

async fn try_destroy_all(database: &KeyDatabase, keys: &[KeyId]) -> Result<(), Failure> {
    forget(database.get().await?, keys).await
}
