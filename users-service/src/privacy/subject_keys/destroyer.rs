//! The task that destroys keys. It destroys all waiting keys in one write, so that concurrent deletions do not contend for
//! the database or its write-ahead log.
//!
//! Invariant: before a request is answered, its key is on the list of destroyed keys, and in neither the file nor its
//! write-ahead log.

use super::{KeyId, KeysError};
use sqlx::sqlite::SqlitePool;
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

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error("readers kept the write-ahead log from being emptied")]
    Busy,
}

impl Destroyer {
    /// Starts the task. It ends when this value is dropped.
    pub(super) fn start(pool: SqlitePool) -> Self {
        let (requests, waiting) = mpsc::channel(BATCH);
        tokio::spawn(run(pool, waiting));
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

async fn run(pool: SqlitePool, mut waiting: mpsc::Receiver<Request>) {
    let mut batch = Vec::with_capacity(BATCH);
    while waiting.recv_many(&mut batch, BATCH).await > 0 {
        match destroy_all(&pool, &batch).await {
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

async fn destroy_all(pool: &SqlitePool, batch: &[Request]) -> Result<(), Failure> {
    let mut attempt = 1;
    loop {
        match try_destroy_all(pool, batch).await {
            Err(error) if attempt < ATTEMPTS => {
                tracing::debug!(%error, "keys were not destroyed; this is retried");
            }
            outcome => return outcome,
        }
        attempt += 1;
        tokio::time::sleep(Duration::from_millis(rand::random_range(5..=25))).await;
    }
}

async fn try_destroy_all(pool: &SqlitePool, batch: &[Request]) -> Result<(), Failure> {
    let ids: Vec<_> = batch
        .iter()
        .map(|request| request.key.to_string())
        .collect();
    let ids = serde_json::json!(ids).to_string();
    let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
    for statement in [
        "INSERT OR IGNORE INTO destroyed (id) SELECT unhex(value) FROM json_each(?)",
        "DELETE FROM keys WHERE id IN (SELECT unhex(value) FROM json_each(?))",
    ] {
        let query = sqlx::query(statement).bind(&ids);
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    empty_log(pool).await
}

/// Empties the write-ahead log, which contains older versions of pages.
async fn empty_log(pool: &SqlitePool) -> Result<(), Failure> {
    let (busy, _, _): (i64, i64, i64) = sqlx::query_as("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(pool)
        .await?;
    if busy == 0 {
        Ok(())
    } else {
        Err(Failure::Busy)
    }
}
