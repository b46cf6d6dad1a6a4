//! The tables, and how connections to them are opened.
//!
//! `events` is kept in the order of the log; `streams` has one row for every stream that has events or
//! metadata, with the limits that its metadata sets; `log` has the last position that was given out, so
//! that none is given out twice.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Result};

const FILE: &str = "events.db";

/// To this many bytes the write-ahead log is cut when it begins anew.
const LARGEST_IDLE_JOURNAL: i64 = 64 * 1024 * 1024;

const TABLES: &str = "
CREATE TABLE IF NOT EXISTS log (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    head INTEGER NOT NULL
) STRICT;
INSERT OR IGNORE INTO log (id, head) VALUES (1, 0);
CREATE TABLE IF NOT EXISTS streams (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    last INTEGER,
    tombstoned INTEGER NOT NULL,
    has_metadata INTEGER NOT NULL,
    max_count INTEGER,
    max_age INTEGER,
    truncate_before INTEGER
) STRICT;
CREATE TABLE IF NOT EXISTS events (
    position INTEGER PRIMARY KEY,
    stream INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    id BLOB NOT NULL,
    created INTEGER NOT NULL,
    is_json INTEGER NOT NULL,
    type TEXT NOT NULL,
    data BLOB NOT NULL,
    metadata BLOB NOT NULL
) STRICT;
CREATE UNIQUE INDEX IF NOT EXISTS events_by_revision ON events (stream, revision);
CREATE INDEX IF NOT EXISTS events_by_id ON events (stream, id);
";

/// Opens the one connection that writes, and makes what is missing. Deleted content is overwritten, so
/// that erased data is in no file.
pub(crate) fn open_writer(folder: &Path, flush_to_disk: bool) -> Result<Connection> {
    let connection = Connection::open(folder.join(FILE))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    let synchronous = if flush_to_disk { "FULL" } else { "OFF" };
    connection.pragma_update(None, "synchronous", synchronous)?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "journal_size_limit", LARGEST_IDLE_JOURNAL)?;
    connection.execute_batch(TABLES)?;
    prepare(&connection)?;
    Ok(connection)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(folder: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(folder.join(FILE), flags)?;
    prepare(&connection)?;
    Ok(connection)
}

fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(Duration::from_secs(5))?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}
