//! Reads and writes rows: streams by name, events by position or revision.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Result, Row};
use uuid::Uuid;

use crate::append_rules::StreamState;
use crate::event::{NewEvent, Position, RecordedEvent, revision_to_sql};
use crate::retention::Retention;
use crate::stream_name::StreamName;

/// The columns that [`event`] reads.
pub(super) const EVENT: &str = "SELECT e.position, s.name, e.revision, e.id, e.created, e.is_json, e.type, \
     e.data, e.metadata FROM events e CROSS JOIN streams s ON s.id = e.stream ";

/// One row of `streams`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stream {
    pub(super) id: i64,
    pub(super) last: Option<u64>,
    pub(super) tombstoned: bool,
    pub(super) has_metadata: bool,
    /// Whether some record was created before its predecessor, because the clock went back.
    pub(super) disordered: bool,
    /// The limits in the metastream; see [`Stream::retention`].
    pub(super) metadata: Retention,
}

impl Stream {
    pub(super) fn new(id: i64) -> Self {
        Self {
            id,
            last: None,
            tombstoned: false,
            has_metadata: false,
            disordered: false,
            metadata: Retention::default(),
        }
    }

    /// The limits that apply to the stream of this name.
    pub(super) fn retention(&self, name: &StreamName) -> Retention {
        if name.is_metastream() {
            Retention::METASTREAM
        } else {
            self.metadata
        }
    }

    pub(super) fn state(&self, name: &StreamName) -> StreamState {
        StreamState {
            last: self.last,
            tombstoned: self.tombstoned,
            soft_deleted: self.retention(name).is_soft_deleted(),
            has_metadata: self.has_metadata,
        }
    }
}

pub(super) fn find_stream(connection: &Connection, name: &StreamName) -> Result<Option<Stream>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, last, tombstoned, has_metadata, max_count, max_age, truncate_before, disordered
         FROM streams WHERE name = ?1",
    )?;
    statement.query_row([name.as_str()], stream).optional()
}

fn stream(row: &Row<'_>) -> Result<Stream> {
    Ok(Stream {
        id: row.get(0)?,
        last: number(row, 1)?,
        tombstoned: row.get(2)?,
        has_metadata: row.get(3)?,
        disordered: row.get(7)?,
        metadata: Retention {
            max_count: number(row, 4)?,
            max_age: number(row, 5)?,
            truncate_before: number(row, 6)?,
        },
    })
}

/// The streams with ids from `from` to below `to` that are tombstoned or have limits. Every metastream has limits.
pub(super) fn limited_streams(
    connection: &Connection,
    from: i64,
    to: i64,
) -> Result<Vec<(StreamName, Stream)>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, last, tombstoned, has_metadata, max_count, max_age, truncate_before, disordered, name
         FROM streams WHERE id >= ?1 AND id < ?2 AND (tombstoned OR name GLOB '$$*'
             OR coalesce(max_count, max_age, truncate_before) IS NOT NULL)",
    )?;
    let streams = statement.query_map((from, to), |row| {
        let name: &str = row.get_ref(8)?.as_str()?;
        Ok((StreamName::stored(name), stream(row)?))
    })?;
    streams.collect()
}

pub(super) fn save_stream(
    connection: &Connection,
    name: &StreamName,
    stream: &Stream,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO streams (id, name, last, tombstoned, has_metadata, max_count, max_age, truncate_before,
             disordered)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)
         ON CONFLICT (id) DO UPDATE SET last = ?3, tombstoned = ?4, has_metadata = ?5, max_count = ?6,
             max_age = ?7, truncate_before = ?8, disordered = ?9",
    )?;
    statement.execute((
        stream.id,
        name.as_str(),
        stream.last.map(revision_to_sql),
        stream.tombstoned,
        stream.has_metadata,
        stream.metadata.max_count.map(revision_to_sql),
        stream.metadata.max_age.map(revision_to_sql),
        stream.metadata.truncate_before.map(revision_to_sql),
        stream.disordered,
    ))?;
    Ok(())
}

/// The place of an event, and its creation time.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) position: Position,
    pub(super) stream: i64,
    pub(super) revision: u64,
    pub(super) created: i64,
}

pub(super) fn insert_event(connection: &Connection, place: Place, event: &NewEvent) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO events (position, stream, revision, id, created, is_json, type, data, metadata)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?;
    statement.execute((
        place.position.to_sql(),
        place.stream,
        revision_to_sql(place.revision),
        event.id.as_bytes(),
        place.created,
        event.is_json,
        &event.event_type,
        &event.data[..],
        &event.metadata[..],
    ))?;
    Ok(())
}

/// The event as readers get it. It owns its bytes, so that it does not keep the request in memory.
pub(super) fn recorded(stream: &StreamName, place: Place, event: &NewEvent) -> RecordedEvent {
    RecordedEvent {
        position: place.position,
        stream: stream.clone(),
        revision: place.revision,
        id: event.id,
        created: place.created,
        event_type: event.event_type.clone(),
        is_json: event.is_json,
        data: Bytes::copy_from_slice(&event.data),
        metadata: Bytes::copy_from_slice(&event.metadata),
    }
}

/// Adds a record with this revision to a system stream: a link to the event at `place`.
pub(super) fn insert_link(
    connection: &Connection,
    (stream, revision): (i64, u64),
    place: Place,
    target: i64,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO links (stream, revision, position, target, target_revision, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?;
    statement.execute((
        stream,
        revision_to_sql(revision),
        place.position.to_sql(),
        target,
        revision_to_sql(place.revision),
        place.created,
    ))?;
    Ok(())
}

/// Reads a row of [`EVENT`].
pub(super) fn event(row: &Row<'_>) -> Result<RecordedEvent> {
    let name: &str = row.get_ref(1)?.as_str()?;
    Ok(RecordedEvent {
        position: Position::from_sql(row.get(0)?),
        stream: StreamName::stored(name),
        revision: row.get::<_, i64>(2)?.unsigned_abs(),
        id: Uuid::from_bytes(row.get(3)?),
        created: row.get(4)?,
        is_json: row.get(5)?,
        event_type: row.get(6)?,
        data: Bytes::from(row.get::<_, Vec<u8>>(7)?),
        metadata: Bytes::from(row.get::<_, Vec<u8>>(8)?),
    })
}

pub(super) fn event_at_position(
    connection: &Connection,
    position: Position,
) -> Result<Option<RecordedEvent>> {
    let mut statement = connection.prepare_cached(&format!("{EVENT} WHERE e.position = ?1"))?;
    statement.query_row([position.to_sql()], event).optional()
}

pub(super) fn event_at_revision(
    connection: &Connection,
    stream: i64,
    revision: u64,
) -> Result<Option<RecordedEvent>> {
    let mut statement =
        connection.prepare_cached(&format!("{EVENT} WHERE e.stream = ?1 AND e.revision = ?2"))?;
    statement
        .query_row((stream, revision_to_sql(revision)), event)
        .optional()
}

pub(super) fn number(row: &Row<'_>, column: usize) -> Result<Option<u64>> {
    let value: Option<i64> = row.get(column)?;
    Ok(value.map(i64::unsigned_abs))
}
