//! What can be seen of a stream.

use rusqlite::{Connection, OptionalExtension, Result};

use super::{records, rows};
use crate::event::revision_to_sql;
use crate::retention::Retention;
use crate::stream_name::StreamName;

/// A stream as a reader finds it.
pub(super) enum Found {
    /// It has no events.
    Missing,
    /// It, or the stream that it is the metadata of, is deleted for good.
    Tombstoned,
    Stream(Visible),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Visible {
    pub(super) id: i64,
    /// The revision of the last event.
    pub(super) last: u64,
    /// Earlier revisions cannot be seen; it may be beyond the last.
    pub(super) first: u64,
    pub(super) soft_deleted: bool,
}

pub(super) fn find(connection: &Connection, name: &StreamName, now: i64) -> Result<Found> {
    if is_tombstoned(connection, name)? {
        return Ok(Found::Tombstoned);
    }
    let Some(stream) = rows::find_stream(connection, name)? else {
        return Ok(Found::Missing);
    };
    let Some(last) = stream.last else {
        return Ok(Found::Missing);
    };
    let retention = stream.retention(name);
    let by_number = retention.first_visible(last);
    let first = first_young_enough(
        (connection, records::table(name)),
        (stream.id, by_number, last),
        retention,
        now,
    )?;
    Ok(Found::Stream(Visible {
        id: stream.id,
        last,
        first,
        soft_deleted: retention.is_soft_deleted(),
    }))
}

fn is_tombstoned(connection: &Connection, name: &StreamName) -> Result<bool> {
    let original = name.original();
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM streams WHERE name IN (?1, ?2) AND tombstoned")?;
    statement.exists((name.as_str(), original.as_ref().unwrap_or(name).as_str()))
}

/// Looks for the first revision from `first` on whose event is young enough, by bisection: `created` never
/// goes back. Revisions that a scavenge has removed are passed over.
fn first_young_enough(
    (connection, table): (&Connection, &str),
    (stream, first, last): (i64, u64, u64),
    retention: Retention,
    now: i64,
) -> Result<u64> {
    let Some(oldest) = retention.oldest_visible(now) else {
        return Ok(first);
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT revision, created FROM {table} WHERE stream = ?1 AND revision BETWEEN ?2 AND ?3
         ORDER BY revision LIMIT 1"
    ))?;
    let (mut low, mut high) = (first, (last + 1).max(first));
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        let bounds = (stream, revision_to_sql(middle), revision_to_sql(last));
        let event = statement.query_row(bounds, |row| {
            Ok((row.get::<_, i64>(0)?, row.get::<_, i64>(1)?))
        });
        match event.optional()? {
            Some((revision, created)) if created < oldest => low = revision.unsigned_abs() + 1,
            Some((revision, _)) => (found, high) = (Some(revision.unsigned_abs()), middle),
            None => high = middle,
        }
    }
    Ok(found.unwrap_or(low))
}
