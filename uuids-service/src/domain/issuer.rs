//! Issuing ids from the current window.
//!
//! The shared sequence serves all requests without `after`: it ascends and follows the clock. A request with `after`
//! beyond the shared sequence takes ids from later ticks. The shared sequence skips these ticks when it reaches them, so
//! the request does not move anybody else's ids.
//!
//! Invariants: every id lies in a window that was granted to this process; no tick of a window is issued twice; the
//! shared sequence is at most [`LEAD_MS`] ahead of the clock. It descends only when a window of another number begins more
//! than [`LEAD_MS`] below it; until then no `after` is refused that is an id issued ahead.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    id::{Id, MILLISECONDS, Tick},
    window::{AHEAD_MS, Window},
};

/// How far the shared sequence may be ahead of the clock.
pub(crate) const LEAD_MS: u64 = 1_000;
/// How far `after` may be ahead of the later of the clock and the last shared id.
pub(crate) const AFTER_MS: u64 = 2_000;
/// The shortest time for which ids can be issued without the event store. When less than this is left of a window, the
/// next one is needed.
const RENEW_BELOW_MS: u64 = AHEAD_MS / 3 * 2;

/// The lease of one process, and what it has issued.
#[derive(Debug, Default, Clone)]
pub(crate) struct Issuer {
    lease: Option<Lease>,
    /// The first tick that the shared sequence may still issue. It is past the last shared id, and not before the clock at
    /// the last answer.
    next: Tick,
    /// For each millisecond, how many of its ticks were issued ahead of the shared sequence; these are always its first
    /// ticks.
    issued_ahead: BTreeMap<u64, u64>,
    /// The greatest id that was issued ahead. No `after` up to this id is refused. It is forgotten when the shared sequence
    /// restarts far below it.
    farthest: Option<Id>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    worker: u16,
    window: Window,
}

/// Ids of one worker, ascending.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    worker: u16,
    count: u16,
    runs: Vec<Run>,
}

/// Consecutive ticks of one millisecond.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: Tick,
    count: u64,
}

/// Why no ids can be issued now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// There is no window, or it ends before the ids that were requested.
    #[error("no window of time reaches that far yet")]
    OutOfWindow,
    /// The ids would be too far ahead of the clock until it has advanced by `by_ms`.
    #[error("the ids are ahead of the clock")]
    AheadOfTheClock { by_ms: u64 },
    /// `after` is refused until the clock has come near it.
    #[error("`after` is more than {AFTER_MS} ms ahead of the clock and of the last id")]
    AfterTooFar,
}

/// What a process needs from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The current window is enough.
    Nothing,
    /// The next window of the current worker number.
    Window,
    /// Another worker number: the process has none, or its clock stepped back by more than a window. In the latter case
    /// taking a number whose window has passed is better than waiting.
    Number,
}

impl Issuer {
    /// Adds a window of `worker`. It extends the current window if it follows that one directly, and replaces it otherwise.
    pub(crate) fn grant(&mut self, worker: u16, window: Window) {
        if let Some(lease) = &mut self.lease
            && lease.worker == worker
            && lease.window.until_ms == window.from_ms
        {
            lease.window.until_ms = window.until_ms;
            return;
        }
        self.lease = Some(Lease { worker, window });
        self.issued_ahead.clear();
        let reached_ms = self.next.millisecond();
        if reached_ms > window.from_ms + LEAD_MS {
            self.next = Tick::default();
            self.farthest = None;
        } else {
            // Ids of the next millisecond are above the last id, whichever of the two worker numbers is greater.
            self.next = Tick::first_of(reached_ms + 1);
        }
    }

    /// Gives up the window. Later windows go on above the last id.
    pub(crate) fn revoke(&mut self) {
        self.lease = None;
    }

    /// What the process needs from the log at this time. No request for ids changes the answer.
    pub(crate) fn need(&self, now_ms: u64) -> Need {
        let Some(Lease { window, .. }) = self.lease else {
            return Need::Number;
        };
        let goes_on_ms = self.next.millisecond().max(window.from_ms);
        if goes_on_ms.saturating_sub(now_ms) > AHEAD_MS {
            Need::Number
        } else if window.until_ms.saturating_sub(now_ms) < RENEW_BELOW_MS {
            Need::Window
        } else {
            Need::Nothing
        }
    }

    /// The next `count` ids, all above `after`, at the clock's millisecond or as soon after it as possible.
    pub(crate) fn issue(
        &mut self,
        now_ms: u64,
        count: u16,
        after: Option<Id>,
    ) -> Result<Issued, Refusal> {
        let now_ms = now_ms.min(MILLISECONDS);
        let latest_ms = self.next.millisecond().max(now_ms);
        let is_too_far =
            |after: Id| after.millisecond() > latest_ms + AFTER_MS && Some(after) > self.farthest;
        if after.is_some_and(is_too_far) {
            return Err(Refusal::AfterTooFar);
        }
        let lease = self.lease.ok_or(Refusal::OutOfWindow)?;
        let Lease { worker, window } = lease;
        let next = self.next.max(Tick::first_of(window.from_ms.max(now_ms)));
        let ahead = after.filter(|after| *after >= Id::new(next, worker));
        let runs = if let Some(after) = ahead {
            let start = self.first_above(after, worker).max(next);
            let runs = self.free(start, count, latest_ms + AFTER_MS + LEAD_MS, lease)?;
            let given = runs.iter().map(Run::end_in_its_millisecond);
            self.issued_ahead.extend(given);
            let last = runs.last().map(|run| Id::new(run.last(), worker));
            self.farthest = self.farthest.max(last);
            self.next = next;
            runs
        } else {
            let runs = self.free(next, count, now_ms + LEAD_MS, lease)?;
            self.next = runs.last().map_or(next, Run::end);
            runs
        };
        self.issued_ahead = self.issued_ahead.split_off(&self.next.millisecond());
        Ok(Issued {
            worker,
            count,
            runs,
        })
    }

    /// The first tick that was not issued ahead and at which an id of `worker` is greater than `after`.
    fn first_above(&self, after: Id, worker: u16) -> Tick {
        let millisecond = after.millisecond();
        let is_above = match u64::from(worker).cmp(&after.worker()) {
            Ordering::Less => false,
            // Ticks issued ahead are always the first of a millisecond. Beginning in its middle would waste the ticks before.
            Ordering::Equal => after.sequence() < self.issued_ahead_in(millisecond),
            Ordering::Greater => true,
        };
        Tick::first_of(millisecond + u64::from(!is_above))
    }

    /// The first `count` ticks from `start` on that were not issued ahead, the last of them not after `last_ms`.
    fn free(
        &self,
        start: Tick,
        count: u16,
        last_ms: u64,
        lease: Lease,
    ) -> Result<Vec<Run>, Refusal> {
        let mut runs = Vec::new();
        let mut left = u64::from(count);
        let mut tick = start;
        while left > 0 {
            let millisecond = tick.millisecond();
            if millisecond > last_ms {
                let by_ms = millisecond - last_ms;
                return Err(Refusal::AheadOfTheClock { by_ms });
            }
            if millisecond >= lease.window.until_ms {
                return Err(Refusal::OutOfWindow);
            }
            let free = Tick::first_of(millisecond).plus(self.issued_ahead_in(millisecond));
            tick = tick.max(free);
            if tick.millisecond() > millisecond {
                continue;
            }
            let run = Run {
                first: tick,
                count: tick.ticks_left().min(left),
            };
            left -= run.count;
            tick = run.end();
            runs.push(run);
        }
        Ok(runs)
    }

    fn issued_ahead_in(&self, millisecond: u64) -> u64 {
        let given = self.issued_ahead.get(&millisecond);
        given.copied().unwrap_or_default()
    }
}

impl Run {
    fn last(&self) -> Tick {
        self.first.plus(self.count - 1)
    }

    /// The tick after the last one.
    fn end(&self) -> Tick {
        self.first.plus(self.count)
    }

    fn end_in_its_millisecond(&self) -> (u64, u64) {
        let end = self.first.sequence() + self.count;
        (self.first.millisecond(), end)
    }
}

impl Issued {
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> {
        let worker = self.worker;
        let ticks = self
            .runs
            .iter()
            .flat_map(|run| (0..run.count).map(move |tick| run.first.plus(tick)));
        ticks.map(move |tick| Id::new(tick, worker))
    }

    /// The number of ids.
    pub(crate) fn count(&self) -> usize {
        self.count.into()
    }
}
