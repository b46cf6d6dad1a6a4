//! Tells readers that there may be more to read: the last committed position, once for the whole log and
//! once for each of a fixed number of groups of streams, so that a quiet stream's readers mostly sleep.

use std::hash::{DefaultHasher, Hash, Hasher};

use tokio::sync::watch;

use crate::event::Position;
use crate::stream_name::StreamName;

const GROUPS: usize = 256;

pub(crate) struct Heads {
    all: watch::Sender<Position>,
    groups: Vec<watch::Sender<Position>>,
}

impl Heads {
    pub(crate) fn new(committed: Position) -> Self {
        Self {
            all: watch::Sender::new(committed),
            groups: (0..GROUPS).map(|_| watch::Sender::new(committed)).collect(),
        }
    }

    /// Everything up to `committed` can be read; these streams have changed.
    pub(crate) fn moved<'a>(
        &self,
        committed: Position,
        streams: impl Iterator<Item = &'a StreamName>,
    ) {
        for stream in streams {
            self.groups[group_of(stream)].send_replace(committed);
        }
        let moved = |head: &mut Position| std::mem::replace(head, committed) != committed;
        self.all.send_if_modified(moved);
    }

    pub(crate) fn all(&self) -> watch::Receiver<Position> {
        self.all.subscribe()
    }

    pub(crate) fn of(&self, stream: &StreamName) -> watch::Receiver<Position> {
        self.groups[group_of(stream)].subscribe()
    }
}

fn group_of(stream: &StreamName) -> usize {
    let mut hasher = DefaultHasher::new();
    stream.hash(&mut hasher);
    usize::try_from(hasher.finish() % GROUPS as u64).unwrap_or(0)
}
