//! Replays the parked events of one group, and tracks which replayed events are not settled.
//!
//! Invariant: until a replayed event is settled, the metadata of the stream of parked events records it. The metadata
//! event that removes it from that stream also adds this record. The next start parks again what a stop or a kill
//! leaves there.

use std::collections::BTreeMap;

use super::journal::{Journal, ParkedRange};
use super::stored_events::{self, Replayed};
use crate::event::ResolvedEvent;
use crate::storage::StorageFailed;

/// The range that is still to be replayed.
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
    /// The replayed events that are not settled, by the revision at which they were parked.
    open: BTreeMap<u64, Replayed>,
    /// Whether events were settled since the last save.
    is_changed: bool,
}

impl Replays {
    /// Parks again the replayed events that were not settled before the last stop.
    pub(super) async fn start(journal: &Journal) -> Result<Self, StorageFailed> {
        let mut replays = Self {
            parked: journal.parked().await?,
            range: None,
            open: journal.replayed().await?,
            is_changed: false,
        };
        if !replays.open.is_empty() && replays.park_again(journal).await.is_err() {
            // The metadata still records them, so the next start finds them.
            tracing::error!("replayed events could not be parked again");
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

    /// The number of parked events.
    pub(super) fn count(&self) -> u64 {
        self.parked.end.saturating_sub(self.parked.first)
    }

    /// Notes that the events before `end` are parked.
    pub(super) fn set_end(&mut self, end: u64) {
        self.parked.end = end;
    }

    /// Starts a replay of the events that are parked before `stop_at`, unless a replay is in progress.
    pub(super) fn begin(&mut self, stop_at: Option<u64>) {
        let stop = stop_at.map_or(self.parked.end, |stop| stop.min(self.parked.end));
        let next = self.parked.first;
        if self.range.is_none() && next < stop {
            self.range = Some(ReplayRange { next, stop });
        }
    }

    /// Whether a replay is in progress.
    pub(super) fn is_under_way(&self) -> bool {
        self.range.is_some()
    }

    /// Takes the next parked events to replay, at most `room`, each with its revision.
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

    /// Notes that the replayed event that was parked at this revision is settled.
    pub(super) fn settled(&mut self, revision: u64) {
        self.is_changed |= self.open.remove(&revision).is_some();
    }

    /// Whether [`Replays::save`] has something to write.
    pub(super) fn is_changed(&self) -> bool {
        self.is_changed
    }

    /// Saves which events were settled.
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
