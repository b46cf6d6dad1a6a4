//! Events before and after they are written, and their places in the log.

use bytes::Bytes;
use uuid::Uuid;

use crate::stream_name::StreamName;

/// The content type of an event whose data is JSON; of all others it is [`BINARY`].
pub(crate) const JSON: &str = "application/json";
const BINARY: &str = "application/octet-stream";

/// The content type that an event is read with.
pub(crate) fn content_type(is_json: bool) -> &'static str {
    if is_json { JSON } else { BINARY }
}

/// The type of the event that stands for a tombstoned stream.
pub(crate) const STREAM_DELETED: &str = "$streamDeleted";
/// The type of an event that carries a stream's metadata.
pub(crate) const METADATA: &str = "$metadata";
/// The type of an event whose data (`N@stream`) names another event.
pub(crate) const LINK: &str = "$>";
/// The revision of the event that stands for a tombstoned stream.
pub(crate) const TOMBSTONE_REVISION: u64 = i64::MAX as u64;

/// A place in the log of all events. Positions rise by [`Position::STRIDE`], so that what lies between two
/// of them is recognised as no event's place, whatever a scavenge has removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Position(pub(crate) u64);

impl Position {
    /// The distance of two neighbours.
    const STRIDE: u64 = 64;
    /// Before the first event.
    pub(crate) const START: Self = Self(0);

    pub(crate) fn next(self) -> Self {
        Self(self.0 + Self::STRIDE)
    }

    /// So many places later.
    pub(crate) fn after(self, places: u64) -> Self {
        Self(self.0.saturating_add(places.saturating_mul(Self::STRIDE)))
    }

    /// How many places it comes after an earlier one.
    pub(crate) fn places_after(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0).div_ceil(Self::STRIDE)
    }

    /// The last place that is not after this.
    pub(crate) fn boundary(self) -> Self {
        Self(self.0 - self.0 % Self::STRIDE)
    }

    /// Right after this one, so that what is at it is left out.
    pub(crate) fn following(self) -> Self {
        Self(self.0.saturating_add(1))
    }

    /// Whether an event may begin here.
    pub(crate) fn is_boundary(self) -> bool {
        self.0.is_multiple_of(Self::STRIDE)
    }

    /// As SQLite keeps it: whatever is above is beyond the end anyway.
    pub(crate) fn to_sql(self) -> i64 {
        revision_to_sql(self.0)
    }

    pub(crate) fn from_sql(value: i64) -> Self {
        Self(value.unsigned_abs())
    }
}

/// A number of the wire as SQLite keeps it: whatever is above `i64::MAX` is beyond every end.
pub(crate) fn revision_to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Which way to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Forwards,
    Backwards,
}

/// An event that a client, or the server itself, wants written.
#[derive(Clone, Debug)]
pub(crate) struct NewEvent {
    pub(crate) id: Uuid,
    pub(crate) event_type: String,
    pub(crate) is_json: bool,
    pub(crate) data: Bytes,
    pub(crate) metadata: Bytes,
}

impl NewEvent {
    /// The bytes it keeps in memory, about.
    pub(crate) fn size(&self) -> usize {
        std::mem::size_of::<Self>() + self.event_type.len() + self.data.len() + self.metadata.len()
    }
}

/// An event as it was written.
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
    /// What a link names; `None` for every other event.
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

/// An event as a reader gets it: for a resolved link the event is what the link names, if it can be seen.
#[derive(Clone, Debug)]
pub(crate) struct ResolvedEvent {
    pub(crate) event: Option<RecordedEvent>,
    pub(crate) link: Option<RecordedEvent>,
    /// Of the record that was read: of the link, if there is one.
    pub(crate) position: Position,
}
