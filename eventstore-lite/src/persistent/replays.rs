//! The parked events of one group: which there are, and which of them came again and are not settled yet.
//!
//! Invariant: an event that came again is named in the metadata of the stream of parked events, in the same event that
//! takes it off that stream, until it is settled. What a stop or a kill leaves there is parked again at the next start.

use std::collections::BTreeMap;

use super::journal::{Journal, ParkedRange};
use super::stored_events::{self, Replayed};
use crate::event::ResolvedEvent;
use crate::storage::StorageFailed;

/// A stop on the way through the parked events.
#[derive(Clone, Copy, Debug)]
struct ReplayRange {
    next: u64,
    /// The first revision that is not replayed.
    stop: u64,
}

#[derive(Debug)]
pub(super) struct Replays {
    parked: ParkedRange,
    range: Option<ReplayRange>,
    /// What came again, by the revision at which it was parked, until it is settled.
    open: BTreeMap<u64, Replayed>,
    /// Whether some of it was settled and that is not written yet.
    is_changed: bool,
}

impl Replays {
    /// Parks again what came again and was not settled before the last stop.
    pub(super) async fn start(journal: &Journal) -> Result<Self, StorageFailed> {
        let mut replays = Self {
            parked: journal.parked().await?,
            range: None,
            open: journal.replayed().await?,
            is_changed: false,
        };
        if !replays.open.is_empty() && replays.park_again(journal).await.is_err() {
            // They are still named in the metadata, so the next start finds them.
            tracing::error!("parked events that were replayed could not be parked again yet");
        }
        Ok(replays)
    }

    async fn park_again(&mut self, journal: &Journal) -> Result<(), StorageFailed> {
        let links = self.open.values().map(Replayed::link).collect();
        journal.append_parked(links).await?;
        self.open.clear();
        self.is_changed = true;
        self.parked = journal.parked().await?;
        self.save(journal).await
    }

    /// How many events are parked.
    pub(super) fn count(&self) -> u64 {
        self.parked.end.saturating_sub(self.parked.first)
    }

    /// More events are parked, those before `end`.
    pub(super) fn set_end(&mut self, end: u64) {
        self.parked.end = end;
    }

    /// Has the events come again that are parked now before `stop_at`, if no others are about to.
    pub(super) fn begin(&mut self, stop_at: Option<u64>) {
        let stop = stop_at.map_or(self.parked.end, |stop| stop.min(self.parked.end));
        let next = self.parked.first;
        if self.range.is_none() && next < stop {
            self.range = Some(ReplayRange { next, stop });
        }
    }

    /// Whether events are about to come again.
    pub(super) fn is_under_way(&self) -> bool {
        self.range.is_some()
    }

    /// Takes at most so many events off the stream of parked events, each with its revision there.
    pub(super) async fn next(
        &mut self,
        journal: &Journal,
        room: usize,
    ) -> Result<Vec<(u64, ResolvedEvent)>, StorageFailed> {
        let Some(ReplayRange { next, stop }) = self.range else {
            return Ok(Vec::new());
        };
        let limit = (stop - next).min(room as u64);
        let page = journal.parked_events(next, limit).await?;
        let taken = page.next.min(stop);
        let named = page.list.iter().filter_map(|(revision, event)| {
            stored_events::replayed(*revision, event).map(|replayed| (*revision, replayed))
        });
        let mut open = self.open.clone();
        open.extend(named);
        if !page.is_gone {
            journal.truncate_parked(taken, &open).await?;
        }
        self.open = open;
        self.is_changed = false;
        self.parked.first = taken;
        self.range = (taken < stop).then_some(ReplayRange { next: taken, stop });
        Ok(page.list)
    }

    /// The event that was parked at this revision came again and is settled.
    pub(super) fn settled(&mut self, revision: u64) {
        self.is_changed |= self.open.remove(&revision).is_some();
    }

    /// Whether there is something for [`Replays::save`] to write.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Writes what was settled since the last time.
    pub(super) async fn save(&mut self, journal: &Journal) -> Result<(), StorageFailed> {
        if self.is_changed {
            journal
                .truncate_parked(self.parked.first, &self.open)
                .await?;
            self.is_changed = false;
        }
        Ok(())
    }
}
