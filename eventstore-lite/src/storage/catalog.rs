//! The streams by name, page by page.

use rusqlite::{Connection, Result};

use super::rows::number;
use crate::event::TOMBSTONE_REVISION;
use crate::stream_name::StreamName;

/// The most streams in a page.
const PAGE: usize = 100;

/// A stream as a list of streams shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct StreamEntry {
    pub(crate) name: StreamName,
    /// The revision of its last event; none if it has only metadata.
    pub(crate) last: Option<u64>,
    pub(crate) is_tombstoned: bool,
    pub(crate) is_soft_deleted: bool,
}

/// The first streams whose names begin with `prefix` and come after `after`, in the order of their names' bytes.
/// System streams and those of metadata are listed only if the prefix begins as their names do.
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

/// Names from `from` on, after `after`, and before `end` if there is one; until the page is full.
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
