//! Runs one scavenge: removes events, overwrites pages, and truncates the write-ahead log, in small steps. Other
//! writes run between the steps.

use std::time::Duration;

use rusqlite::{Connection, Result, Transaction, TransactionBehavior};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{ScavengeEnd, ScavengeProgress, discard, pages};
use crate::clock;
use crate::storage::{Storage, StorageFailed};
use crate::stream_name::StreamName;

/// The shortest and the longest pause between attempts to truncate the write-ahead log. Each pause doubles the last.
const SHORTEST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Why a scavenge ends early.
enum Interruption {
    Stopped,
    Failed,
}

impl From<StorageFailed> for Interruption {
    fn from(_: StorageFailed) -> Self {
        Self::Failed
    }
}

pub(super) async fn run(
    storage: &Storage,
    id: Uuid,
    progress: &watch::Sender<ScavengeProgress>,
    stop: &CancellationToken,
) {
    tracing::info!(scavenge = %id, "a scavenge starts");
    let course = ScavengeRun {
        storage,
        progress,
        stop,
    };
    let ended = match course.run().await {
        Ok(()) => ScavengeEnd::Completed,
        Err(Interruption::Stopped) => ScavengeEnd::Stopped,
        Err(Interruption::Failed) => ScavengeEnd::Failed,
    };
    progress.send_modify(|progress| progress.ended = Some(ended));
    let ScavengeProgress {
        removed,
        overwritten,
        steps,
        ..
    } = *progress.borrow();
    tracing::info!(scavenge = %id, ?ended, removed, overwritten, steps, "a scavenge has ended");
}

struct ScavengeRun<'a> {
    storage: &'a Storage,
    progress: &'a watch::Sender<ScavengeProgress>,
    stop: &'a CancellationToken,
}

impl ScavengeRun<'_> {
    async fn run(&self) -> std::result::Result<(), Interruption> {
        self.remove().await?;
        if !self.storage.readers.run(is_erasing).await? {
            return Ok(());
        }
        self.overwrite().await?;
        self.cut_journal().await?;
        self.step(|connection| set_erasing(connection, false)).await
    }

    async fn remove(&self) -> std::result::Result<(), Interruption> {
        let now = clock::now();
        let mut from = Some(0);
        while let Some(id) = from {
            let find = move |connection: &Connection| discard::find(connection, id, now);
            let found = self.storage.readers.run(find).await?;
            self.remove_from(found.streams, now).await?;
            from = found.next;
        }
        Ok(())
    }

    async fn remove_from(
        &self,
        mut streams: Vec<StreamName>,
        now: i64,
    ) -> std::result::Result<(), Interruption> {
        while !streams.is_empty() {
            let todo = streams.clone();
            let removed = self
                .step(move |connection| {
                    set_erasing(connection, true)?;
                    discard::remove(connection, &todo, now)
                })
                .await?;
            self.progress
                .send_modify(|progress| progress.removed += removed.events as u64);
            streams.drain(..removed.streams_done);
        }
        Ok(())
    }

    async fn overwrite(&self) -> std::result::Result<(), Interruption> {
        let mut from = Some(1);
        while let Some(number) = from {
            let find = move |connection: &Connection| pages::find(connection, number);
            let dirty = self.storage.readers.run(find).await?;
            for pages in dirty.pages.chunks(pages::OVERWRITTEN) {
                let pages = pages.to_owned();
                let overwritten = self.step(move |connection| pages::overwrite(connection, &pages));
                let overwritten = overwritten.await?;
                self.progress
                    .send_modify(|progress| progress.overwritten += overwritten);
            }
            from = dirty.next;
        }
        Ok(())
    }

    async fn cut_journal(&self) -> std::result::Result<(), Interruption> {
        let mut pause = SHORTEST_PAUSE;
        let cut = || async {
            let Storage {
                readers, writer, ..
            } = self.storage;
            let _pause = readers.slots().pause().await?;
            let cut = writer.between_groups(|ledger| pages::cut_journal(ledger.connection()));
            cut.await
        };
        while !cut().await? {
            if !self.progress.borrow().waits_for_readers {
                tracing::warn!("a scavenge waits for reads of an earlier state of the database");
            }
            self.progress
                .send_modify(|progress| progress.waits_for_readers = true);
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => return Err(Interruption::Stopped),
            }
            pause = LONGEST_PAUSE.min(2 * pause);
        }
        self.progress
            .send_modify(|progress| progress.waits_for_readers = false);
        Ok(())
    }

    /// Runs a transaction on the writer's thread between two groups of changes.
    async fn step<T, F>(&self, work: F) -> std::result::Result<T, Interruption>
    where
        T: Send + 'static,
        F: FnOnce(&Connection) -> Result<T> + Send + 'static,
    {
        if self.stop.is_cancelled() {
            return Err(Interruption::Stopped);
        }
        let writer = &self.storage.writer;
        let step = writer.between_groups(|ledger| transaction(ledger.connection(), work));
        let done = step.await?;
        self.progress.send_modify(|progress| progress.steps += 1);
        Ok(done)
    }
}

pub(super) fn transaction<T>(
    connection: &Connection,
    work: impl FnOnce(&Connection) -> Result<T>,
) -> Result<T> {
    let transaction = Transaction::new_unchecked(connection, TransactionBehavior::Immediate)?;
    let done = work(&transaction)?;
    transaction.commit()?;
    Ok(done)
}

/// Whether bytes of removed events may still be in the files.
pub(super) fn is_erasing(connection: &Connection) -> Result<bool> {
    connection.query_row("SELECT erasing FROM log", [], |row| row.get(0))
}

pub(super) fn set_erasing(connection: &Connection, erasing: bool) -> Result<()> {
    let mut statement =
        connection.prepare_cached("UPDATE log SET erasing = ?1 WHERE erasing <> ?1")?;
    statement.execute([erasing])?;
    Ok(())
}
