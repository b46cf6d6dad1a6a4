//! Determines which records of a stream are visible.

use rusqlite::{Connection, OptionalExtension, Result};

use super::{records, rows};
use crate::event::revision_to_sql;
use crate::stream_name::StreamName;

/// A stream as a reader finds it.
pub(super) enum StreamLookup {
    /// The stream has no events.
    Missing,
    /// The stream, or the stream whose metadata it holds, is deleted for good.
    Tombstoned,
    Stream(Visible),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Visible {
    pub(super) id: i64,
    /// The revision of the last event.
    pub(super) last: u64,
    /// Earlier revisions are hidden. This may be beyond the last revision.
    pub(super) first: u64,
    /// Records that were created earlier are hidden.
    pub(super) oldest: i64,
    pub(super) soft_deleted: bool,
}

pub(super) fn find(connection: &Connection, name: &StreamName, now: i64) -> Result<StreamLookup> {
    if is_tombstoned(connection, name)? {
        return Ok(StreamLookup::Tombstoned);
    }
    let Some(stream) = rows::find_stream(connection, name)? else {
        return Ok(StreamLookup::Missing);
    };
    let Some(last) = stream.last else {
        return Ok(StreamLookup::Missing);
    };
    let retention = stream.retention(name);
    let oldest = retention.oldest_visible(now);
    let by_number = retention.first_visible(last);
    let table = (connection, records::table(name));
    let first = match oldest {
        None => by_number,
        Some(oldest) if stream.disordered => {
            first_in_disorder(table, (stream.id, by_number, last), oldest)?
        }
        Some(oldest) => first_young_enough(table, (stream.id, by_number, last), oldest)?,
    };
    Ok(StreamLookup::Stream(Visible {
        id: stream.id,
        last,
        first,
        oldest: oldest.unwrap_or(i64::MIN),
        soft_deleted: retention.is_soft_deleted(),
    }))
}

fn is_tombstoned(connection: &Connection, name: &StreamName) -> Result<bool> {
    let original = name.original();
    let mut statement =
        connection.prepare_cached("SELECT 1 FROM streams WHERE name IN (?1, ?2) AND tombstoned")?;
    statement.exists((name.as_str(), original.as_ref().unwrap_or(name).as_str()))
}

/// Scans for the first revision from `first` on whose record is young enough.
fn first_in_disorder(
    (connection, table): (&Connection, &str),
    (stream, first, last): (i64, u64, u64),
    oldest: i64,
) -> Result<u64> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT revision FROM {table} WHERE stream = ?1 AND revision BETWEEN ?2 AND ?3 AND created >= ?4
         ORDER BY revision LIMIT 1"
    ))?;
    let bounds = (
        stream,
        revision_to_sql(first),
        revision_to_sql(last),
        oldest,
    );
    let found = statement.query_row(bounds, |row| row.get::<_, i64>(0));
    let found = found.optional()?.map(i64::unsigned_abs);
    Ok(found.unwrap_or((last + 1).max(first)))
}

/// Finds the same by bisection, in a stream whose records are in the order of their times. Revisions that a scavenge
/// has removed are skipped.
fn first_young_enough(
    (connection, table): (&Connection, &str),
    (stream, first, last): (i64, u64, u64),
    oldest: i64,
) -> Result<u64> {
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
