//! The progress of a group: which of its events are not settled, and which checkpoint follows from that. Pure.
//!
//! Invariant: a checkpoint is never at or beyond an event that is not settled.

use std::collections::BTreeMap;

use tokio::time::Instant;

use crate::persistent::settings::Settings;

/// The number of an event in the order in which its group read it, starting with 0.
pub(crate) type Sequence = u64;

#[derive(Debug)]
pub(super) struct Progress {
    /// The unsettled events, each with the place before it.
    open: BTreeMap<Sequence, Option<u64>>,
    next: Sequence,
    /// The place of the last event that was read or left out by the filter.
    reached: Option<u64>,
    /// How many events were left out since the last one that counted.
    filtered_out: u64,
    checkpointed: Sequence,
    checkpointed_at: Instant,
}

impl Progress {
    pub(super) fn new(checkpoint: Option<u64>, now: Instant) -> Self {
        Self {
            open: BTreeMap::new(),
            next: 0,
            reached: checkpoint,
            filtered_out: 0,
            checkpointed: 0,
            checkpointed_at: now,
        }
    }

    pub(super) fn read(&mut self, place: u64) -> Sequence {
        let sequence = self.next;
        self.open.insert(sequence, self.reached);
        self.next += 1;
        self.reached = Some(place);
        sequence
    }

    /// Notes that `count` events up to `place` were left out. Every `interval` of them count as one settled event.
    pub(super) fn filtered_out(&mut self, place: u64, count: u64, interval: u64) {
        self.reached = Some(place);
        self.filtered_out += count;
        self.next += self.filtered_out / interval.max(1);
        self.filtered_out %= interval.max(1);
    }

    pub(super) fn settle(&mut self, sequence: Sequence) {
        self.open.remove(&sequence);
    }

    /// The number of the first unsettled event, and the last place before it.
    fn settled(&self) -> (Sequence, Option<u64>) {
        match self.open.first_key_value() {
            Some((sequence, before)) => (*sequence, *before),
            None => (self.next, self.reached),
        }
    }

    /// Whether at least `least` events in a row (at least one) were settled since the last checkpoint.
    fn has_settled(&self, least: i32) -> bool {
        let count = self.settled().0.saturating_sub(self.checkpointed);
        count >= u64::try_from(least).unwrap_or(0).max(1)
    }

    /// Whether a checkpoint will become due as time passes.
    pub(super) fn is_waiting(&self, settings: &Settings) -> bool {
        self.has_settled(settings.min_check_point_count)
    }

    /// The checkpoint to write now, if one is due.
    pub(super) fn due(&mut self, by_time: bool, now: Instant, settings: &Settings) -> Option<u64> {
        let waited = now.duration_since(self.checkpointed_at) >= settings.check_point_after();
        let is_due = self.has_settled(settings.max_check_point_count)
            || (by_time && waited && self.is_waiting(settings));
        is_due.then(|| self.checkpoint(now)).flatten()
    }

    /// The checkpoint for everything that was settled since the last one, however little.
    pub(super) fn last(&mut self, now: Instant) -> Option<u64> {
        self.has_settled(1).then(|| self.checkpoint(now)).flatten()
    }

    fn checkpoint(&mut self, now: Instant) -> Option<u64> {
        let (settled, place) = self.settled();
        self.checkpointed = settled;
        self.checkpointed_at = now;
        place
    }

    #[cfg(test)]
    pub(super) fn lowest_open(&self) -> Option<Sequence> {
        self.open.first_key_value().map(|(sequence, _)| *sequence)
    }
}
