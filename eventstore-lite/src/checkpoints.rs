//! Decides when a filtered subscription sends a checkpoint: after a number of places of the log, and at the end.
//! Pure. It counts places, not events, so it makes no difference whether filtered events are looked at one by one.

use crate::event::Position;

#[derive(Debug)]
pub(crate) struct Checkpoints {
    interval: u64,
    /// The last checkpoint that was sent.
    last: Position,
    scanned_to: Position,
}

impl Checkpoints {
    /// For a subscription that begins after `start`: a checkpoint after every `interval` places.
    pub(crate) fn new(interval: u64, start: Position) -> Self {
        let start = start.boundary();
        Self {
            interval,
            last: start,
            scanned_to: start,
        }
    }

    /// The next checkpoint that is due before the event at `position`.
    pub(crate) fn before(&mut self, position: Position) -> Option<Position> {
        let due = self.last.after(self.interval);
        self.emit(due, due < position)
    }

    /// The checkpoint that is due after the event at `position`, once those before it were sent.
    pub(crate) fn at(&mut self, position: Position) -> Option<Position> {
        self.scanned_to = position;
        let due = self.last.after(self.interval);
        self.emit(due, due <= position)
    }

    /// The position that was scanned last, unless a checkpoint told it already.
    pub(crate) fn at_end(&mut self) -> Option<Position> {
        self.emit(self.scanned_to, self.scanned_to > self.last)
    }

    fn emit(&mut self, position: Position, is_due: bool) -> Option<Position> {
        is_due.then(|| {
            self.last = position;
            position
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Position = Position::START;

    fn place(number: u64) -> Position {
        START.after(number)
    }

    #[test]
    fn a_checkpoint_comes_after_every_interval_and_at_the_end_but_never_twice() {
        let mut checkpoints = Checkpoints::new(2, START);
        let last: Vec<_> = (1..=3).map(|n| checkpoints.at(place(n))).collect();
        assert_eq!(last, [None, Some(place(2)), None]);
        assert_eq!(checkpoints.at_end(), Some(place(3)));
        assert_eq!(checkpoints.at_end(), None);
    }

    #[test]
    fn checkpoints_of_a_skipped_stretch_come_before_the_next_event() {
        let mut checkpoints = Checkpoints::new(2, place(1));
        let last: Vec<_> = std::iter::from_fn(|| checkpoints.before(place(7))).collect();
        assert_eq!(last, [place(3), place(5)]);
        assert_eq!(checkpoints.at(place(7)), Some(place(7)));
        assert_eq!(checkpoints.at_end(), None);
    }

    #[test]
    fn a_start_beyond_the_end_gives_no_checkpoint() {
        for start in [Position(u64::MAX), Position(65)] {
            let mut checkpoints = Checkpoints::new(u64::MAX, start);
            assert_eq!(checkpoints.before(Position(u64::MAX)), None);
            assert_eq!(checkpoints.at_end(), None);
        }
    }
}
