//! Decides which events of a stream are removed, and deletes them in transactions.

use rusqlite::{Connection, Result};

use crate::event::{TOMBSTONE_REVISION, revision_to_sql};
use crate::storage::rows::{self, Stream};
use crate::stream_name::StreamName;

/// The limits of one transaction: events, and about as many bytes.
pub(super) const MOST_EVENTS: usize = 256;
const MOST_BYTES: u64 = 1024 * 1024;
/// The maximum number of streams that one step looks at.
pub(super) const MOST_STREAMS: i64 = 256;

/// The events of one stream that are removed. They form a stretch from its beginning, unless some event was created
/// before its predecessor. The last event stays, as in the real server. Of a tombstoned stream only the tombstone
/// stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Discard {
    /// This revision and later ones stay, whatever their age.
    before: u64,
    /// Revisions before this one are removed, whatever their age.
    first: u64,
    /// Events that were created before this time are removed; in ticks.
    oldest: i64,
    /// Whether a removed event may follow one that stays.
    disordered: bool,
}

impl Discard {
    /// `None` if the stream has no events.
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
                disordered: false,
            }));
        }
        let retention = stream.retention(name);
        Ok(stream.last.map(|last| Self {
            before: last,
            first: retention.first_visible(last),
            oldest: retention.oldest_visible(now).unwrap_or(i64::MIN),
            disordered: stream.disordered && retention.max_age.is_some(),
        }))
    }

    /// The first events to remove, at most `limit`.
    fn events(&self, connection: &Connection, stream: i64, limit: usize) -> Result<Vec<Candidate>> {
        let is_removed = "revision < ?3 AND (revision < ?4 OR created < ?5)";
        let condition = if self.disordered { is_removed } else { "true" };
        let mut statement = connection.prepare_cached(&format!(
            "SELECT position, length(data) + length(metadata), {is_removed} FROM events
             WHERE stream = ?1 AND {condition} ORDER BY revision LIMIT ?2"
        ))?;
        let bounds = (
            stream,
            revision_to_sql(limit as u64),
            revision_to_sql(self.before),
            revision_to_sql(self.first),
            self.oldest,
        );
        let rows = statement.query_map(bounds, |row| {
            let candidate = Candidate {
                position: row.get(0)?,
                bytes: row.get::<_, i64>(1)?.unsigned_abs(),
            };
            Ok(row.get::<_, bool>(2)?.then_some(candidate))
        })?;
        rows.map_while(Result::transpose).collect()
    }
}

fn is_tombstoned(connection: &Connection, name: Option<StreamName>) -> Result<bool> {
    let stream = name.map(|name| rows::find_stream(connection, &name));
    let stream = stream.transpose()?.flatten();
    Ok(stream.is_some_and(|stream| stream.tombstoned))
}

/// An event to remove.
struct Candidate {
    position: i64,
    bytes: u64,
}

/// Those streams of a range of ids that have events to remove, and the start of the next range.
#[derive(Debug)]
pub(super) struct StreamsToScavenge {
    pub(super) streams: Vec<StreamName>,
    pub(super) next: Option<i64>,
}

/// Looks through [`MOST_STREAMS`] ids, starting with `from`.
pub(super) fn find(connection: &Connection, from: i64, now: i64) -> Result<StreamsToScavenge> {
    let next = from + MOST_STREAMS;
    let mut streams = Vec::new();
    for (name, stream) in rows::limited_streams(connection, from, next)? {
        let Some(discard) = Discard::of(connection, &name, &stream, now)? else {
            continue;
        };
        if !discard.events(connection, stream.id, 1)?.is_empty() {
            streams.push(name);
        }
    }
    let last: i64 =
        connection.query_row("SELECT coalesce(max(id), 0) FROM streams", [], |row| {
            row.get(0)
        })?;
    Ok(StreamsToScavenge {
        streams,
        next: (next <= last).then_some(next),
    })
}

/// What one transaction deleted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RemovedEvents {
    pub(super) events: usize,
    /// How many of the streams have no more events to remove.
    pub(super) streams_done: usize,
}

/// Deletes events of these streams in order, until the transaction is large enough. The events are chosen again here,
/// because metadata may have changed since the streams were found.
pub(super) fn remove(
    connection: &Connection,
    streams: &[StreamName],
    now: i64,
) -> Result<RemovedEvents> {
    let mut removed = RemovedEvents::default();
    let mut bytes = 0;
    let mut delete = connection.prepare_cached("DELETE FROM events WHERE position = ?1")?;
    for name in streams {
        let Some(stream) = rows::find_stream(connection, name)? else {
            continue;
        };
        let events = match Discard::of(connection, name, &stream, now)? {
            Some(discard) => {
                discard.events(connection, stream.id, MOST_EVENTS - removed.events + 1)?
            }
            None => vec![],
        };
        for event in events {
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
