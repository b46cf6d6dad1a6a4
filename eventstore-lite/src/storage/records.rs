//! The records of a stream: its events and, for a system stream, also its links. Both share one sequence of
//! revisions, so every revision is either an event or a link.
//!
//! Invariant: records of other streams are read from `events` only.

use rusqlite::{Connection, OptionalExtension, Result};

use super::rows::{self, EVENT};
use crate::event::{RecordedEvent, revision_to_sql};
use crate::stream_name::StreamName;
use crate::system_streams::is_index;

/// Links in the columns of [`EVENT`]. The content of a link is assembled here. Its id consists of the number of its
/// stream and its revision. A link of `$category-…` names the stream. A link to an event that is itself a link has
/// the content of that link.
const LINK: &str = "SELECT e.position, i.name, e.revision, \
     unhex(format('%012x400080%014x', e.stream, e.revision)), e.created, 0, \
     iif(i.name GLOB '$category-*', '$@', '$>'), \
     CASE WHEN i.name GLOB '$category-*' THEN CAST(s.name AS BLOB) \
         WHEN t.type = '$>' THEN t.data \
         ELSE CAST(e.target_revision || '@' || s.name AS BLOB) END, \
     CAST('{}' AS BLOB) \
     FROM links e JOIN streams i ON i.id = e.stream JOIN streams s ON s.id = e.target \
     LEFT JOIN events t ON t.position = e.position ";

/// A query for whole records in the columns of [`EVENT`], in the order of revisions. `condition` refers to `e.stream`
/// and `e.revision`.
pub(super) fn query(stream: &StreamName, condition: &str, order: &str) -> String {
    if is_index(stream.as_str()) {
        format!("{EVENT} WHERE {condition} UNION ALL {LINK} WHERE {condition} ORDER BY 3 {order}")
    } else {
        format!("{EVENT} WHERE {condition} ORDER BY e.revision {order}")
    }
}

/// One record of a stream, given the stream's name and number.
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

/// The creation time of one record of a stream, given the stream's name and number.
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

/// The FROM part of a query for the columns `stream`, `revision` and `created`.
pub(super) fn table(stream: &StreamName) -> &'static str {
    if is_index(stream.as_str()) {
        "(SELECT stream, revision, created FROM events
          UNION ALL SELECT stream, revision, created FROM links)"
    } else {
        "events"
    }
}
