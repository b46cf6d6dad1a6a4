//! What goes: which events of a stream, and the transactions that delete them.

use rusqlite::{Connection, Result};

use crate::event::{TOMBSTONE_REVISION, revision_to_sql};
use crate::storage::rows::{self, Stream};
use crate::stream_name::StreamName;

/// The most events, and about the most bytes of them, that one transaction deletes.
pub(super) const MOST_EVENTS: usize = 256;
const MOST_BYTES: u64 = 1024 * 1024;
/// The most streams that one step looks at.
pub(super) const MOST_STREAMS: i64 = 256;

/// Which events of one stream go: a stretch from its beginning. The last event stays, as in the real server;
/// of a tombstoned stream only what stands for its tombstone does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discard {
    /// This revision and later ones stay whatever their age.
    before: u64,
    /// Earlier revisions go whatever their age.
    first: u64,
    /// Events of before this time go, in ticks.
    oldest: i64,
}

impl Discard {
    /// `None` if the stream has nothing that could go.
    fn of(
        connection: &Connection,
        name: &StreamName,
        stream: &Stream,
        now: i64,
    ) -> Result<Option<Self>> {
        if stream.tombstoned || is_tombstoned(connection, name.original())? {
            return Ok(Some(Self {
                before: TOMBSTONE_REVISION,
                first: TOMBSTONE_REVISION,
                oldest: i64::MIN,
            }));
        }
        let retention = stream.retention(name);
        Ok(stream.last.map(|last| Self {
            before: last,
            first: retention.first_visible(last),
            oldest: retention.oldest_visible(now).unwrap_or(i64::MIN),
        }))
    }

    fn takes(&self, revision: u64, created: i64) -> bool {
        revision < self.before && (revision < self.first || created < self.oldest)
    }
}

fn is_tombstoned(connection: &Connection, name: Option<StreamName>) -> Result<bool> {
    let stream = name.map(|name| rows::find_stream(connection, &name));
    let stream = stream.transpose()?.flatten();
    Ok(stream.is_some_and(|stream| stream.tombstoned))
}

/// An event that could go.
struct Candidate {
    position: i64,
    revision: u64,
    created: i64,
    bytes: u64,
}

fn oldest_events(connection: &Connection, stream: i64, limit: usize) -> Result<Vec<Candidate>> {
    let mut statement = connection.prepare_cached(
        "SELECT position, revision, created, length(data) + length(metadata) FROM events
         WHERE stream = ?1 ORDER BY revision LIMIT ?2",
    )?;
    let rows = statement.query_map((stream, revision_to_sql(limit as u64)), |row| {
        Ok(Candidate {
            position: row.get(0)?,
            revision: row.get::<_, i64>(1)?.unsigned_abs(),
            created: row.get(2)?,
            bytes: row.get::<_, i64>(3)?.unsigned_abs(),
        })
    })?;
    rows.collect()
}

/// The streams of a range of ids that have events that go, and where the next range begins.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) streams: Vec<StreamName>,
    pub(super) next: Option<i64>,
}

/// Looks through [`MOST_STREAMS`] ids from `from` on.
pub(super) fn find(connection: &Connection, from: i64, now: i64) -> Result<Found> {
    let next = from + MOST_STREAMS;
    let mut streams = Vec::new();
    for (name, stream) in rows::limited_streams(connection, from, next)? {
        let Some(discard) = Discard::of(connection, &name, &stream, now)? else {
            continue;
        };
        let oldest = oldest_events(connection, stream.id, 1)?;
        if oldest
            .iter()
            .any(|event| discard.takes(event.revision, event.created))
        {
            streams.push(name);
        }
    }
    let last: i64 =
        connection.query_row("SELECT coalesce(max(id), 0) FROM streams", [], |row| {
            row.get(0)
        })?;
    Ok(Found {
        streams,
        next: (next <= last).then_some(next),
    })
}

/// What one transaction has deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Removed {
    pub(super) events: usize,
    /// How many of the streams have nothing more that goes.
    pub(super) streams_done: usize,
}

/// Deletes what goes of these streams, in their order, until the transaction is large enough. What goes is
/// decided here and not when the streams were found: their metadata may have changed.
pub(super) fn remove(connection: &Connection, streams: &[StreamName], now: i64) -> Result<Removed> {
    let mut removed = Removed::default();
    let mut bytes = 0;
    let mut delete = connection.prepare_cached("DELETE FROM events WHERE position = ?1")?;
    for name in streams {
        let Some(stream) = rows::find_stream(connection, name)? else {
            continue;
        };
        let discard = Discard::of(connection, name, &stream, now)?;
        let room = MOST_EVENTS - removed.events;
        let events = oldest_events(connection, stream.id, room + 1)?;
        for event in events {
            if !discard.is_some_and(|discard| discard.takes(event.revision, event.created)) {
                break;
            }
            if removed.events == MOST_EVENTS || bytes > MOST_BYTES {
                return Ok(removed);
            }
            delete.execute([event.position])?;
            removed.events += 1;
            bytes += event.bytes;
        }
        removed.streams_done += 1;
    }
    Ok(removed)
}
