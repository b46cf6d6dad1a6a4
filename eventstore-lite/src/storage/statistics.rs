//! Figures about a database, counted by scanning it.

use std::path::Path;

use anyhow::{Context, Result};
use rusqlite::Connection;
use serde::Serialize;

use super::schema;

/// Figures about a database.
#[derive(Debug, Serialize)]
pub(crate) struct Statistics {
    /// Streams that have or had events, including metastreams.
    streams: i64,
    soft_deleted_streams: i64,
    tombstoned_streams: i64,
    events: i64,
    /// The bytes of data and metadata of all events.
    event_bytes: i64,
    /// The last position that was given out.
    head_position: i64,
    /// The creation times of the first and the last event, in ticks of 100 ns since the Unix epoch.
    oldest_created: Option<i64>,
    newest_created: Option<i64>,
    layout_version: i64,
    database_file_bytes: u64,
    /// Free space inside the database file.
    free_bytes: i64,
    write_ahead_log_bytes: u64,
}

/// Counts the figures, whether or not a server is running.
pub(crate) fn statistics(folder: &Path) -> Result<Statistics> {
    let file = schema::file(folder);
    let connection = schema::inspect_newest(folder)
        .with_context(|| format!("opening the database {}", file.display()))?;
    let transaction = connection.unchecked_transaction()?;
    Ok(count(&transaction, &file)?)
}

fn count(connection: &Connection, file: &Path) -> rusqlite::Result<Statistics> {
    let number = |query: &str| connection.query_row(query, [], |row| row.get::<_, i64>(0));
    let time = |order: &str| {
        let query =
            format!("SELECT (SELECT created FROM events ORDER BY position {order} LIMIT 1)");
        connection.query_row(&query, [], |row| row.get(0))
    };
    let size = |file: &Path| std::fs::metadata(file).map_or(0, |metadata| metadata.len());
    Ok(Statistics {
        streams: number("SELECT count(*) FROM streams WHERE last IS NOT NULL OR tombstoned")?,
        soft_deleted_streams: number(
            "SELECT count(*) FROM streams WHERE truncate_before = 9223372036854775807 AND NOT tombstoned",
        )?,
        tombstoned_streams: number("SELECT count(*) FROM streams WHERE tombstoned")?,
        events: number("SELECT count(*) FROM events")?,
        event_bytes: number(
            "SELECT coalesce(sum(length(data) + length(metadata)), 0) FROM events",
        )?,
        head_position: number("SELECT head FROM log")?,
        oldest_created: time("ASC")?,
        newest_created: time("DESC")?,
        layout_version: number("SELECT user_version FROM pragma_user_version")?,
        database_file_bytes: size(file),
        free_bytes: number(
            "SELECT freelist_count * page_size FROM pragma_freelist_count, pragma_page_size",
        )?,
        write_ahead_log_bytes: size(&file.with_extension("db-wal")),
    })
}
