//! Issuing ids from the window in hand.
//!
//! The shared sequence serves all who ask: it goes upwards and follows the clock. Whoever asks for ids above one that
//! the shared sequence has not reached is answered from later places, which the shared sequence leaves out when it
//! comes to them. So such a request moves nobody else's ids.
//!
//! Invariants: every id lies in a window that was granted to this process; no place of a window is given twice; the
//! shared sequence leads the clock by [`LEAD_MS`] at most. It goes downwards only where a window of another number
//! begins further below it than that.

use std::{cmp::Ordering, collections::BTreeMap};

use super::{
    id::{Id, MILLISECONDS, Tick},
    window::{AHEAD_MS, Window},
};

/// The shared sequence leads the clock by at most so much.
pub(crate) const LEAD_MS: u64 = 1_000;
/// `after` may lead the later of the clock and the last shared id by at most so much.
pub(crate) const AFTER_MS: u64 = 2_000;
/// The least time that ids go on without the event store: a window is followed by another when less of it is left.
const RENEW_BELOW_MS: u64 = AHEAD_MS / 3 * 2;

/// What one process may issue, and what it issued.
#[derive(Debug, Default, Clone)]
pub(crate) struct Issuer {
    lease: Option<Lease>,
    /// The shared sequence gives no place below this one any more: it is past its last id, and past the clock at the
    /// last answer.
    next: Tick,
    /// How many places of a millisecond were given ahead of the shared sequence, always the first ones.
    given_ahead: BTreeMap<u64, u64>,
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

/// Places of one millisecond without a gap.
#[derive(Debug, Clone, Copy)]
struct Run {
    first: Tick,
    count: u64,
}

/// Why no ids can be had now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// The window in hand, if there is one, does not reach as far as was asked.
    #[error("no window of time reaches that far yet")]
    OutOfWindow,
    /// The ids would lead the clock too far, until it has moved on by `by_ms`.
    #[error("the ids are ahead of the clock")]
    AheadOfTheClock { by_ms: u64 },
    /// It will not be answered before the clock gets there.
    #[error("`after` leads the clock and the last id by more than {AFTER_MS} ms")]
    AfterTooFar,
}

/// What a process must get from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// The window in hand will do.
    Nothing,
    /// Another window of the number in hand.
    Window,
    /// A worker number: there is none, or the clock stepped back by more than a window, so that one whose window has
    /// passed is better than waiting.
    Number,
}

impl Issuer {
    /// Takes up a window of `worker`: as an extension where it follows the one in hand, else in its place.
    pub(crate) fn grant(&mut self, worker: u16, window: Window) {
        if let Some(lease) = &mut self.lease
            && lease.worker == worker
            && lease.window.until_ms == window.from_ms
        {
            lease.window.until_ms = window.until_ms;
            return;
        }
        self.lease = Some(Lease { worker, window });
        self.given_ahead.clear();
        let reached_ms = self.next.millisecond();
        self.next = if reached_ms > window.from_ms + LEAD_MS {
            Tick::default()
        } else {
            // The next millisecond is above the last id, whichever of the two numbers is greater.
            Tick::first_of(reached_ms + 1)
        };
    }

    /// What must be got from the log, by the clock. No request for ids changes it.
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

    /// The next `count` ids, all above `after`: at the clock's millisecond, or as soon after it as they must be.
    pub(crate) fn issue(
        &mut self,
        now_ms: u64,
        count: u16,
        after: Option<Id>,
    ) -> Result<Issued, Refusal> {
        let now_ms = now_ms.min(MILLISECONDS);
        let latest_ms = self.next.millisecond().max(now_ms);
        if after.is_some_and(|after| after.millisecond() > latest_ms + AFTER_MS) {
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
            self.given_ahead.extend(given);
            self.next = next;
            runs
        } else {
            let runs = self.free(next, count, now_ms + LEAD_MS, lease)?;
            self.next = runs.last().map_or(next, Run::end);
            runs
        };
        self.given_ahead = self.given_ahead.split_off(&self.next.millisecond());
        Ok(Issued {
            worker,
            count,
            runs,
        })
    }

    /// The first place, of those that were not given ahead, at which `worker` has a greater id than `after`.
    fn first_above(&self, after: Id, worker: u16) -> Tick {
        let millisecond = after.millisecond();
        let is_above = match u64::from(worker).cmp(&after.worker()) {
            Ordering::Less => false,
            // From the places in between nothing could be given any more, so the next millisecond serves better.
            Ordering::Equal => after.sequence() < self.given_ahead_in(millisecond),
            Ordering::Greater => true,
        };
        Tick::first_of(millisecond + u64::from(!is_above))
    }

    /// The first `count` places from `start` on that were not given ahead, the last of them at `last_ms` at the latest.
    fn free(
        &self,
        start: Tick,
        count: u16,
        last_ms: u64,
        lease: Lease,
    ) -> Result<Vec<Run>, Refusal> {
        let mut runs = Vec::new();
        let mut left = u64::from(count);
        let mut place = start;
        while left > 0 {
            let millisecond = place.millisecond();
            if millisecond > last_ms {
                let by_ms = millisecond - last_ms;
                return Err(Refusal::AheadOfTheClock { by_ms });
            }
            if millisecond >= lease.window.until_ms {
                return Err(Refusal::OutOfWindow);
            }
            let free = Tick::first_of(millisecond).plus(self.given_ahead_in(millisecond));
            place = place.max(free);
            if place.millisecond() > millisecond {
                continue;
            }
            let run = Run {
                first: place,
                count: place.places_left().min(left),
            };
            left -= run.count;
            place = run.end();
            runs.push(run);
        }
        Ok(runs)
    }

    fn given_ahead_in(&self, millisecond: u64) -> u64 {
        let given = self.given_ahead.get(&millisecond);
        given.copied().unwrap_or_default()
    }
}

impl Run {
    /// The place after the last.
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
        let places = self
            .runs
            .iter()
            .flat_map(|run| (0..run.count).map(move |place| run.first.plus(place)));
        places.map(move |place| Id::new(place, worker))
    }

    /// How many they are.
    pub(crate) fn count(&self) -> usize {
        self.count.into()
    }
}
