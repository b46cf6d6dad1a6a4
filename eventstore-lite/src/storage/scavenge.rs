//! Scavenging: removes events that can no longer be read, beside other traffic, and overwrites their bytes in every
//! file.
//!
//! Invariants: Reads of streams give the same result before and after. Positions and revisions of the remaining
//! events never change. A step on the writer's thread touches a bounded number of rows, bytes and pages. The database
//! remembers that bytes may be left after a crash, and the next scavenge overwrites them.

mod discard;
mod pages;
mod run;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Storage;
use crate::metrics::MetricsPage;

/// The progress of a scavenge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScavengeProgress {
    /// How many events it has removed.
    pub(crate) removed: u64,
    /// How many pages it has overwritten, because their unused part had bytes of former events.
    pub(crate) overwritten: u64,
    /// How many steps it has run on the writer's thread.
    pub(crate) steps: u64,
    /// Everything else is done, but a reader still uses an earlier state of the database. Until that read ends, the
    /// write-ahead log, which may hold bytes of removed events, cannot be truncated.
    pub(crate) waits_for_readers: bool,
    /// `None` while it is running.
    pub(crate) ended: Option<ScavengeEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScavengeEnd {
    /// No file has any of the removed bytes.
    Completed,
    /// A client stopped it, or the server is stopping.
    Stopped,
    /// The storage failed. The reason is in the log.
    Failed,
}

/// The running scavenge, or the last one.
#[derive(Debug)]
pub(crate) struct Scavenge {
    pub(crate) id: Uuid,
    progress: watch::Receiver<ScavengeProgress>,
    stop: CancellationToken,
}

impl Scavenge {
    pub(crate) fn progress(&self) -> ScavengeProgress {
        *self.progress.borrow()
    }

    /// Waits until the scavenge ends.
    pub(crate) async fn ended(&self) -> ScavengeProgress {
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.ended.is_some());
        ended
            .await
            .map_or_else(|_| self.failed(), |progress| *progress)
    }

    /// The task ended without a result.
    fn failed(&self) -> ScavengeProgress {
        ScavengeProgress {
            ended: Some(ScavengeEnd::Failed),
            ..self.progress()
        }
    }

    /// Stops the scavenge and waits until it has ended. Removed events stay removed.
    pub(crate) async fn stop(&self) -> ScavengeProgress {
        self.stop.cancel();
        self.ended().await
    }

    pub(crate) fn is_running(&self) -> bool {
        self.progress().ended.is_none() && self.progress.has_changed().is_ok()
    }
}

/// One scavenge runs at a time.
#[derive(Debug, Default)]
pub(super) struct Scavenges {
    last: Mutex<Option<Arc<Scavenge>>>,
}

impl Scavenges {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<Scavenge>>> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn last(&self) -> Option<Arc<Scavenge>> {
        self.lock().clone()
    }

    /// Writes the figures of the running scavenge, or else of the last one.
    pub(super) fn write_to(&self, page: &mut MetricsPage) {
        let last = self.last();
        let running = last.as_ref().is_some_and(|last| last.is_running());
        let ScavengeProgress {
            removed,
            overwritten,
            waits_for_readers,
            ..
        } = last.map_or_else(ScavengeProgress::default, |last| last.progress());
        let mut gauge = |name, help, value| {
            page.family(name, "gauge", help).sample("", value);
        };
        gauge(
            "eventstore_scavenge_running",
            "Whether a scavenge runs.",
            u64::from(running),
        );
        gauge(
            "eventstore_scavenge_waits_for_readers",
            "Whether it waits for reads of an earlier state of the database.",
            u64::from(waits_for_readers),
        );
        gauge(
            "eventstore_scavenge_removed_events",
            "Events that the running scavenge, or the last one, has removed.",
            removed,
        );
        gauge(
            "eventstore_scavenge_overwritten_pages",
            "Pages that the running scavenge, or the last one, has overwritten.",
            overwritten,
        );
    }
}

/// The result of a request to start a scavenge.
#[derive(Debug)]
pub(crate) enum ScavengeStart {
    Started(Arc<Scavenge>),
    /// This scavenge is already running.
    InProgress(Arc<Scavenge>),
}

impl Storage {
    /// Starts a scavenge in its own task, if none is running. Cancelling `stop` also ends it.
    pub(crate) fn start_scavenge(self: &Arc<Self>, stop: CancellationToken) -> ScavengeStart {
        let mut last = self.scavenges.lock();
        if let Some(running) = last.as_ref().filter(|last| last.is_running()) {
            return ScavengeStart::InProgress(Arc::clone(running));
        }
        let (progress, receiver) = watch::channel(ScavengeProgress::default());
        let scavenge = Arc::new(Scavenge {
            id: Uuid::new_v4(),
            progress: receiver,
            stop: stop.clone(),
        });
        *last = Some(Arc::clone(&scavenge));
        let (storage, id) = (Arc::clone(self), scavenge.id);
        tokio::spawn(async move { run::run(&storage, id, &progress, &stop).await });
        ScavengeStart::Started(scavenge)
    }

    /// The running scavenge, or else the last one since the server started.
    pub(crate) fn last_scavenge(&self) -> Option<Arc<Scavenge>> {
        self.scavenges.last()
    }
}
