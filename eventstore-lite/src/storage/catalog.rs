//! Lists streams by name, in pages.

use rusqlite::{Connection, Result};

use super::rows::number;
use crate::event::TOMBSTONE_REVISION;
use crate::stream_name::StreamName;

/// The maximum number of streams in a page.
const PAGE: usize = 100;

/// An entry in the list of streams.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) name: StreamName,
    /// The revision of the last event. A stream that only has metadata has none.
    pub(crate) last: Option<u64>,
    pub(crate) is_tombstoned: bool,
    pub(crate) is_soft_deleted: bool,
}

/// The first streams whose names begin with `prefix` and follow `after`, in the order of the bytes of their names.
/// System streams and metastreams are listed only if the prefix begins like their names.
pub(super) fn list(connection: &Connection, prefix: &str, after: &str) -> Result<Vec<StreamEntry>> {
    let (before, system, later) = ("", "$", "%");
    let mut listed = Vec::new();
    if prefix.is_empty() {
        range(connection, (before, after, Some(system)), &mut listed)?;
        range(connection, (later, after, None), &mut listed)?;
    } else {
        range(connection, (prefix, after, None), &mut listed)?;
        listed.retain(|stream| stream.name.as_str().starts_with(prefix));
    }
    Ok(listed)
}

/// Adds streams until the page is full: names from `from` on, after `after`, and before `end` if there is one.
fn range(
    connection: &Connection,
    (from, after, end): (&str, &str, Option<&str>),
    listed: &mut Vec<StreamEntry>,
) -> Result<()> {
    let mut statement = connection.prepare_cached(
        "SELECT name, last, tombstoned, truncate_before FROM streams
         WHERE name >= ?1 AND name > ?2 AND (?3 IS NULL OR name < ?3) ORDER BY name LIMIT ?4",
    )?;
    let room = i64::try_from(PAGE - listed.len()).unwrap_or(0);
    let rows = statement.query_map((from, after, end, room), |row| {
        Ok(StreamEntry {
            name: StreamName::stored(row.get_ref(0)?.as_str()?),
            last: number(row, 1)?,
            is_tombstoned: row.get(2)?,
            is_soft_deleted: number(row, 3)? == Some(TOMBSTONE_REVISION),
        })
    })?;
    for stream in rows {
        listed.push(stream?);
    }
    Ok(())
}
