//! Issuing ids from the window in hand.
//!
//! Invariants: every id lies in a window that was granted to this process; every id is greater than all before it.

use super::{
    id::{Id, Tick},
    window::Window,
};

/// What one process may issue, and what it issued last.
#[derive(Debug, Default)]
pub(crate) struct Issuer {
    lease: Option<Lease>,
    last: Option<Id>,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    worker: u16,
    window: Window,
}

/// Ids of one worker, ascending without a gap.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    worker: u16,
    next: Tick,
    left: u16,
}

/// The window in hand, if there is one, does not reach as far as was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OutOfWindow {
    /// Where a window would have to end.
    pub(crate) wanted_until_ms: u64,
}

impl OutOfWindow {
    fn of(millisecond: u64) -> Self {
        Self {
            wanted_until_ms: millisecond.saturating_add(1),
        }
    }
}

impl Issuer {
    /// Takes up a window of `worker`: as an extension where it follows the one in hand, else in its place.
    pub(crate) fn grant(&mut self, worker: u16, window: Window) {
        let follows = self
            .lease
            .filter(|lease| lease.worker == worker && lease.window.until_ms == window.from_ms);
        let from_ms = follows.map_or(window.from_ms, |lease| lease.window.from_ms);
        let window = Window { from_ms, ..window };
        self.lease = Some(Lease { worker, window });
    }

    /// The next `count` ids, all above `after`: at the clock's millisecond, or as soon after it as they must be.
    pub(crate) fn issue(
        &mut self,
        now_ms: u64,
        count: u16,
        after: Option<Id>,
    ) -> Result<Issued, OutOfWindow> {
        let floor = self.last.max(after);
        let earliest_ms = floor.map_or(now_ms, |floor| floor.millisecond().max(now_ms));
        let in_hand = self
            .lease
            .filter(|lease| earliest_ms < lease.window.until_ms);
        let Some(Lease { worker, window }) = in_hand else {
            return Err(OutOfWindow::of(earliest_ms));
        };
        let by_the_clock = Tick::first_of(now_ms.max(window.from_ms));
        let next = floor.map_or(by_the_clock, |floor| {
            floor.next_for(worker).max(by_the_clock)
        });
        let last = next.plus(u64::from(count.saturating_sub(1)));
        if last.millisecond() >= window.until_ms {
            return Err(OutOfWindow::of(last.millisecond()));
        }
        self.last = Some(Id::new(last, worker));
        Ok(Issued {
            worker,
            next,
            left: count,
        })
    }

    /// How many milliseconds of the window in hand are still to be used, by the clock and by what was issued.
    pub(crate) fn remaining_ms(&self, now_ms: u64) -> u64 {
        let until = self.lease.map_or(0, |lease| lease.window.until_ms);
        let used = self
            .last
            .map_or(now_ms, |last| last.millisecond().max(now_ms));
        until.saturating_sub(used)
    }
}

impl Iterator for Issued {
    type Item = Id;

    fn next(&mut self) -> Option<Id> {
        self.left = self.left.checked_sub(1)?;
        let id = Id::new(self.next, self.worker);
        self.next = self.next.plus(1);
        Some(id)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left.into(), Some(self.left.into()))
    }
}

impl ExactSizeIterator for Issued {}
