//! Tells readers that there may be new events. It publishes the last committed position for the whole log, and for
//! each stream that is being read. So readers of a quiet stream are not woken.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use tokio::sync::watch;

use crate::event::Position;
use crate::stream_name::StreamName;

/// With fewer streams than this, unused ones are not looked for.
const LEAST_SWEPT: usize = 1024;

pub(crate) struct Heads {
    all: watch::Sender<Position>,
    streams: Mutex<Streams>,
}

/// The streams that are or were read.
struct Streams {
    heads: HashMap<StreamName, watch::Sender<Position>>,
    /// At this number of streams, the unused ones are removed.
    sweep_at: usize,
}

impl Heads {
    pub(crate) fn new(committed: Position) -> Self {
        Self {
            all: watch::Sender::new(committed),
            streams: Mutex::new(Streams {
                heads: HashMap::new(),
                sweep_at: LEAST_SWEPT,
            }),
        }
    }

    /// Announces that everything up to `committed` can be read, and that these streams have changed.
    pub(crate) fn moved<'a>(
        &self,
        committed: Position,
        changed: impl Iterator<Item = &'a StreamName>,
    ) {
        let streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if !streams.heads.is_empty() {
            for head in changed.filter_map(|stream| streams.heads.get(stream)) {
                head.send_replace(committed);
            }
        }
        drop(streams);
        let moved = |head: &mut Position| std::mem::replace(head, committed) != committed;
        self.all.send_if_modified(moved);
    }

    pub(crate) fn all(&self) -> watch::Receiver<Position> {
        self.all.subscribe()
    }

    pub(crate) fn of(&self, stream: &StreamName) -> watch::Receiver<Position> {
        let mut streams = self.streams.lock().unwrap_or_else(PoisonError::into_inner);
        if streams.heads.len() >= streams.sweep_at {
            streams.heads.retain(|_, head| head.receiver_count() > 0);
            streams.sweep_at = LEAST_SWEPT.max(2 * streams.heads.len());
        }
        let head = streams.heads.entry(stream.clone());
        head.or_insert_with(|| watch::Sender::new(Position::START))
            .subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(number: usize) -> StreamName {
        StreamName::stored(&format!("stream-{number}"))
    }

    #[test]
    fn only_the_readers_of_a_changed_stream_are_told() {
        let heads = Heads::new(Position::START);
        let (changed, quiet, all) = (heads.of(&stream(1)), heads.of(&stream(2)), heads.all());
        heads.moved(Position(64), [stream(1)].iter());
        assert!(changed.has_changed().unwrap());
        assert!(!quiet.has_changed().unwrap());
        assert!(all.has_changed().unwrap());
    }

    #[test]
    fn streams_that_are_no_longer_read_take_no_memory() {
        let heads = Heads::new(Position::START);
        let mut read = heads.of(&stream(0));
        for number in 1..=4 * LEAST_SWEPT {
            drop(heads.of(&stream(number)));
        }
        assert!(heads.streams.lock().unwrap().heads.len() <= LEAST_SWEPT);
        heads.moved(Position(64), [stream(0)].iter());
        assert_eq!(*read.borrow_and_update(), Position(64));
    }
}
