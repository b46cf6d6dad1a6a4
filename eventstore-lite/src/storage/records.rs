//! The records of a stream: its events; and, of a system stream, also the links that an index has for it. Both
//! are numbered together, so every revision is one or the other.
//!
//! Invariant: a stream that is no system stream is read from the events alone.

use rusqlite::{Connection, OptionalExtension, Result};

use super::rows::{self, EVENT};
use crate::event::{RecordedEvent, revision_to_sql};
use crate::stream_name::StreamName;
use crate::system_streams::is_index;

/// Links in the columns of [`EVENT`]. What a link says is put together here: its id is made of its stream's
/// number and its revision; of `$category-…` it names the stream; a link to an event that is a link itself
/// says the same as that one.
const LINK: &str = "SELECT e.position, i.name, e.revision, \
     unhex(format('%012x400080%014x', e.stream, e.revision)), e.created, 0, \
     iif(i.name GLOB '$category-*', '$@', '$>'), \
     CASE WHEN i.name GLOB '$category-*' THEN CAST(s.name AS BLOB) \
         WHEN t.type = '$>' THEN t.data \
         ELSE CAST(e.target_revision || '@' || s.name AS BLOB) END, \
     CAST('{}' AS BLOB) \
     FROM links e JOIN streams i ON i.id = e.stream JOIN streams s ON s.id = e.target \
     LEFT JOIN events t ON t.position = e.position ";

/// A query for whole records, in the columns of [`EVENT`]: those for which `condition` holds, of `e.stream` and
/// `e.revision`, in the order of revisions.
pub(super) fn query(stream: &StreamName, condition: &str, order: &str) -> String {
    if is_index(stream.as_str()) {
        format!("{EVENT} WHERE {condition} UNION ALL {LINK} WHERE {condition} ORDER BY 3 {order}")
    } else {
        format!("{EVENT} WHERE {condition} ORDER BY e.revision {order}")
    }
}

/// One record of the stream with this name and number.
pub(super) fn at(
    connection: &Connection,
    (stream, id): (&StreamName, i64),
    revision: u64,
) -> Result<Option<RecordedEvent>> {
    let sql = query(stream, "e.stream = ?1 AND e.revision = ?2", "");
    let mut statement = connection.prepare_cached(&sql)?;
    let record = statement.query_row((id, revision_to_sql(revision)), rows::event);
    record.optional()
}

/// When one record of the stream with this name and number was created.
pub(super) fn created_at(
    connection: &Connection,
    (stream, id): (&StreamName, i64),
    revision: u64,
) -> Result<Option<i64>> {
    let table = table(stream);
    let sql = format!("SELECT created FROM {table} WHERE stream = ?1 AND revision = ?2");
    let mut statement = connection.prepare_cached(&sql)?;
    let created = statement.query_row((id, revision_to_sql(revision)), |row| row.get(0));
    created.optional()
}

/// What stands after FROM in a query for the columns `stream`, `revision` and `created`.
pub(super) fn table(stream: &StreamName) -> &'static str {
    if is_index(stream.as_str()) {
        "(SELECT stream, revision, created FROM events
          UNION ALL SELECT stream, revision, created FROM links)"
    } else {
        "events"
    }
}
