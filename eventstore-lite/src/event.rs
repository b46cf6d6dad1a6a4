//! Events before and after they are written, and positions in the log.

use bytes::Bytes;
use uuid::Uuid;

use crate::stream_name::StreamName;

/// The content type of events whose data is JSON. Other events have [`BINARY`].
pub(crate) const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// The content type that readers get.
pub(crate) fn content_type(is_json: bool) -> &'static str {
    if is_json { JSON } else { BINARY }
}

/// The event type of a tombstone.
pub(crate) const STREAM_DELETED: &str = "$streamDeleted";
/// The type of events that hold the metadata of a stream.
pub(crate) const METADATA: &str = "$metadata";
/// The type of links: events whose data (`N@stream`) names another event.
pub(crate) const LINK: &str = "$>";
/// The revision of a tombstone.
pub(crate) const TOMBSTONE_REVISION: u64 = i64::MAX as u64;

/// A position in the log of all events. Positions are multiples of [`Position::STRIDE`]. So a number between two
/// positions is recognised as invalid, whatever a scavenge has removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(pub(crate) u64);

impl Position {
    /// The distance between neighbouring positions.
    const STRIDE: u64 = 64;
    /// The position before the first event.
    pub(crate) const START: Self = Self(0);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + Self::STRIDE)
    }

    /// The position `places` places later.
    pub(crate) fn after(self, places: u64) -> Self {
        Self(self.0.saturating_add(places.saturating_mul(Self::STRIDE)))
    }

    /// How many places this position is after an earlier one.
    pub(crate) fn places_after(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0).div_ceil(Self::STRIDE)
    }

    /// The last valid position up to this one.
    pub(crate) fn boundary(self) -> Self {
        Self(self.0 - self.0 % Self::STRIDE)
    }

    /// The number after this position, so that a read leaves out the event here.
    pub(crate) fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether an event may have this position.
    pub(crate) fn is_boundary(self) -> bool {
        self.0.is_multiple_of(Self::STRIDE)
    }

    /// The value for SQLite, limited to its range. Larger positions are beyond the end anyway.
    pub(crate) fn to_sql(self) -> i64 {
        revision_to_sql(self.0)
    }

    pub(crate) fn from_sql(value: i64) -> Self {
        Self(value.unsigned_abs())
    }
}

/// A revision or count as an SQLite value. Numbers above `i64::MAX` are beyond every end.
pub(crate) fn revision_to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// The direction of a read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forwards,
    Backwards,
}

/// An event to be written, by a client or by the server itself.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) id: Uuid,
    pub(crate) event_type: String,
    pub(crate) is_json: bool,
    pub(crate) data: Bytes,
    pub(crate) metadata: Bytes,
}

impl NewEvent {
    /// About how many bytes the event keeps in memory.
    pub(crate) fn size(&self) -> usize {
        std::mem::size_of::<Self>() + self.event_type.len() + self.data.len() + self.metadata.len()
    }
}

/// A written event.
#[derive(Clone, Debug)]
pub(crate) struct RecordedEvent {
    pub(crate) position: Position,
    pub(crate) stream: StreamName,
    pub(crate) revision: u64,
    pub(crate) id: Uuid,
    /// Ticks of 100 ns since the Unix epoch.
    pub(crate) created: i64,
    pub(crate) event_type: String,
    pub(crate) is_json: bool,
    pub(crate) data: Bytes,
    pub(crate) metadata: Bytes,
}

impl RecordedEvent {
    /// The target of a link; `None` for other events.
    pub(crate) fn target(&self) -> Option<(u64, StreamName)> {
        if self.event_type != LINK {
            return None;
        }
        let (revision, stream) = std::str::from_utf8(&self.data).ok()?.split_once('@')?;
        Some((
            revision.parse().ok()?,
            StreamName::parse(stream.as_bytes()).ok()?,
        ))
    }
}

/// An event as a reader gets it. If it is a resolved link, `event` is the target of the link, if that is visible.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedEvent {
    pub(crate) event: Option<RecordedEvent>,
    pub(crate) link: Option<RecordedEvent>,
    /// The position of the record that was read; for a link, that of the link.
    pub(crate) position: Position,
}
