//! Recent committed events, in memory. Subscriptions that are up to date take new events from here. So a commit costs
//! no database reads, however many subscriptions there are. A subscription that is too slow does not find its next
//! event here and reads it from the database.
//!
//! Invariants: The memory holds the end of the log without a gap, and so the end of each of its streams. Its size is
//! bounded. It holds no event that may have been removed from the database.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::read_all::{AllPage, AllRead, ScannedPosition};
use super::read_stream::{FollowPage, StreamFollow};
use crate::event::{Direction, LINK, Position, RecordedEvent, ResolvedEvent, TOMBSTONE_REVISION};
use crate::filter::InvalidFilter;
use crate::stream_name::StreamName;
use crate::system_streams::is_index;

/// The limits of one page: events, and bytes after which no further event is added. A slow client keeps the page in
/// memory.
const MOST_EVENTS: usize = 256;
const MOST_BYTES: usize = 64 * 1024;
/// About how much memory an event takes in addition to its own bytes.
const OVERHEAD: usize = 256;

type Events = VecDeque<Arc<RecordedEvent>>;

/// The version of the log. It changes with every commit, and whenever events may have been removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Version {
    pub(super) head: Position,
    pub(super) forgotten: u64,
}

impl Default for Version {
    fn default() -> Self {
        Self {
            head: Position::START,
            forgotten: 0,
        }
    }
}

#[derive(Debug)]
pub(super) struct RecentEvents {
    state: RwLock<State>,
    most_bytes: usize,
}

#[derive(Debug)]
struct State {
    log: Events,
    streams: HashMap<StreamName, Events>,
    bytes: usize,
    /// All events after this position are in memory.
    floor: Position,
    version: Version,
}

impl RecentEvents {
    /// Keeps at most `most_bytes` of the events that are committed after `head`.
    pub(super) fn new(head: Position, most_bytes: usize) -> Self {
        let version = Version { head, forgotten: 0 };
        Self {
            state: RwLock::new(State::new(version)),
            most_bytes,
        }
    }

    /// Adds the events of a committed transaction, up to `head`.
    pub(super) fn committed(&self, events: Vec<RecordedEvent>, head: Position) {
        let mut state = self.write();
        for event in events {
            state.push(Arc::new(event));
        }
        state.version.head = head;
        while state.bytes > self.most_bytes {
            state.drop_oldest();
        }
    }

    /// Forgets all events, because some may have been removed from the database.
    pub(super) fn forget(&self) {
        let mut state = self.write();
        let mut version = state.version;
        version.forgotten += 1;
        *state = State::new(version);
    }

    pub(super) fn version(&self) -> Version {
        self.read().version
    }

    /// Whether the first events of the page are in memory.
    pub(super) fn has(&self, read: &AllRead) -> bool {
        read.direction == Direction::Forwards && read.from > self.read().floor
    }

    /// The requested page, if all of it is in memory.
    pub(super) fn read_all(&self, read: &AllRead) -> Option<Result<AllPage, InvalidFilter>> {
        if read.direction == Direction::Backwards {
            return None;
        }
        let (events, is_end) = self.after(read.from, read.limit)?;
        if read.resolve_links && events.iter().any(|event| event.event_type == LINK) {
            return None;
        }
        let scan = |event: &Arc<RecordedEvent>| {
            let passes = read.passes(event.stream.as_str(), &event.event_type)?;
            let position = event.position;
            let event = passes.then(|| unresolved(event));
            Ok(ScannedPosition { position, event })
        };
        let scanned = events.iter().map(scan).collect::<Result<_, _>>();
        Some(scanned.map(|scanned| AllPage { scanned, is_end }))
    }

    /// Events from `from` on, and whether they reach the end.
    fn after(&self, from: Position, limit: usize) -> Option<(Vec<Arc<RecordedEvent>>, bool)> {
        let state = self.read();
        if from <= state.floor {
            return None;
        }
        let first = state.log.partition_point(|event| event.position < from);
        Some(take(&state.log, first, limit))
    }

    /// The requested page, if all of it is in memory and metadata hides none of it.
    pub(super) fn follow(&self, follow: &StreamFollow) -> Option<FollowPage> {
        if follow.only_visible || is_index(follow.stream.as_str()) {
            return None;
        }
        let (events, is_end) = self.from(follow)?;
        if follow.resolve_links && events.iter().any(|event| event.event_type == LINK) {
            return None;
        }
        let last = events.last().map(|event| event.revision);
        Some(FollowPage {
            events: events.iter().map(unresolved).collect(),
            tombstoned: last == Some(TOMBSTONE_REVISION),
            next: last.map_or(follow.from, |last| last + 1),
            is_end,
        })
    }

    fn from(&self, follow: &StreamFollow) -> Option<(Vec<Arc<RecordedEvent>>, bool)> {
        let state = self.read();
        let events = state.streams.get(&follow.stream)?;
        if events.front()?.revision > follow.from {
            return None;
        }
        let first = events.partition_point(|event| event.revision < follow.from);
        Some(take(events, first, follow.limit))
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(version: Version) -> Self {
        Self {
            log: Events::new(),
            streams: HashMap::new(),
            bytes: 0,
            floor: version.head,
            version,
        }
    }

    fn push(&mut self, event: Arc<RecordedEvent>) {
        self.bytes += weight(&event);
        let of_stream = self.streams.entry(event.stream.clone()).or_default();
        of_stream.push_back(Arc::clone(&event));
        self.log.push_back(event);
    }

    fn drop_oldest(&mut self) {
        let Some(event) = self.log.pop_front() else {
            self.bytes = 0;
            return;
        };
        self.bytes -= weight(&event);
        self.floor = event.position;
        if let Some(of_stream) = self.streams.get_mut(&event.stream) {
            of_stream.pop_front();
            if of_stream.is_empty() {
                self.streams.remove(&event.stream);
            }
        }
    }
}

fn take(events: &Events, first: usize, limit: usize) -> (Vec<Arc<RecordedEvent>>, bool) {
    let mut bytes = 0;
    let is_room = |event: &&Arc<RecordedEvent>| {
        let fits = bytes < MOST_BYTES;
        bytes += weight(event);
        fits
    };
    let taken = events.range(first..).take(limit.min(MOST_EVENTS));
    let taken: Vec<_> = taken.take_while(is_room).cloned().collect();
    let is_end = first + taken.len() == events.len();
    (taken, is_end)
}

fn weight(event: &RecordedEvent) -> usize {
    OVERHEAD
        + event.stream.as_str().len()
        + event.event_type.len()
        + event.data.len()
        + event.metadata.len()
}

fn unresolved(event: &Arc<RecordedEvent>) -> ResolvedEvent {
    ResolvedEvent {
        event: Some(RecordedEvent::clone(event)),
        link: None,
        position: event.position,
    }
}

#[cfg(test)]
mod tests;
