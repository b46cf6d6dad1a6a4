//! Scavenging: takes away what can no longer be read, beside traffic, and overwrites its bytes in every file.
//!
//! Invariants: what reads of streams see is the same before and after; positions and revisions of what stays
//! never change; a step on the writer's thread touches a bounded number of rows, bytes and pages; bytes that
//! may be left after a crash are remembered in the database and overwritten by the next scavenge.

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

/// How far a scavenge is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct ScavengeProgress {
    /// How many events it has removed.
    pub(crate) removed: u64,
    /// How many pages had bytes of former events in their unused part, which it has overwritten.
    pub(crate) overwritten: u64,
    /// How many steps it has done on the writer's thread.
    pub(crate) steps: u64,
    /// Everything else is done, but somebody still reads a state of the past: until then the write-ahead log,
    /// which may have bytes of removed events, cannot be cut.
    pub(crate) waits_for_readers: bool,
    /// `None` while it runs.
    pub(crate) ended: Option<ScavengeEnd>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ScavengeEnd {
    /// None of the removed bytes is left in any file.
    Completed,
    /// It was told to stop, or the server stops.
    Stopped,
    /// The storage failed; the reason is in the log.
    Failed,
}

/// The scavenge that runs, or ran last.
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

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> ScavengeProgress {
        let mut progress = self.progress.clone();
        let ended = progress.wait_for(|progress| progress.ended.is_some());
        ended
            .await
            .map_or_else(|_| self.failed(), |progress| *progress)
    }

    /// Its task has ended without a word.
    fn failed(&self) -> ScavengeProgress {
        ScavengeProgress {
            ended: Some(ScavengeEnd::Failed),
            ..self.progress()
        }
    }

    /// Stops it before its end, and waits for that; what it has removed stays removed.
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

    /// The figures of the scavenge that runs, or else of the last one.
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
            "Whether it waits for the end of reads of a past state.",
            u64::from(waits_for_readers),
        );
        gauge(
            "eventstore_scavenge_removed_events",
            "Events that it, or the last one, has removed.",
            removed,
        );
        gauge(
            "eventstore_scavenge_overwritten_pages",
            "Pages that it, or the last one, has overwritten.",
            overwritten,
        );
    }
}

/// What came of the wish to start a scavenge.
#[derive(Debug)]
pub(crate) enum ScavengeStart {
    Started(Arc<Scavenge>),
    /// This one runs already.
    InProgress(Arc<Scavenge>),
}

impl Storage {
    /// Starts a scavenge in a task of its own, if none runs. It also ends when `stop` is cancelled.
    pub(crate) fn start_scavenge(self: &Arc<Self>, stop: CancellationToken) -> ScavengeStart {
        let mut last = self.scavenges.lock();
        if let Some(running) = last.as_ref().filter(|last| last.is_running()) {
            return ScavengeStart::InProgress(Arc::clone(running));
        }
        let (progress, told) = watch::channel(ScavengeProgress::default());
        let scavenge = Arc::new(Scavenge {
            id: Uuid::new_v4(),
            progress: told,
            stop: stop.clone(),
        });
        *last = Some(Arc::clone(&scavenge));
        let (storage, id) = (Arc::clone(self), scavenge.id);
        tokio::spawn(async move { run::run(&storage, id, &progress, &stop).await });
        ScavengeStart::Started(scavenge)
    }

    /// The scavenge that runs, or else the last one since the start.
    pub(crate) fn last_scavenge(&self) -> Option<Arc<Scavenge>> {
        self.scavenges.last()
    }
}
