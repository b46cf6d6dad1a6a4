//! Opens connections to the database. [`super::migrations`] creates the tables. `events` holds the log in its order.
//! `streams` has one row for every stream with events or metadata, including the limits from its metadata. `log`
//! holds the last position that was given out, so that no position is given out twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Result};

use super::migrations::{self, MIGRATIONS};
use super::unusable::Unusable;

const FILE: &str = "events.db";
/// The database that a restore has written, until it replaces the old one. If this file exists, it is the valid
/// database.
const RESTORED: &str = "events.db.restored";

/// SQLite truncates the write-ahead log to this size when it restarts the log.
const LARGEST_IDLE_JOURNAL: i64 = 64 * 1024 * 1024;

/// How long a connection waits for the locks of other connections.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// The maximum number of pages, 128 GB. Up to it, the first byte of a page tells whether the page belongs to a
/// B-tree: other pages begin with a page number, whose first byte is then 0 or 1.
pub(super) const MOST_PAGES: u32 = (2 << 24) - 1;

/// The database file of a folder. SQLite adds `-wal` and `-shm` to its name for the files beside it.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(super) fn restored_file(folder: &Path) -> PathBuf {
    folder.join(RESTORED)
}

/// Opens the only connection that writes, and creates what is missing. SQLite overwrites deleted content, so that
/// erased data is in no file. A database that this program cannot use is not changed.
pub(crate) fn open_writer(
    folder: &Path,
    flush_to_disk: bool,
) -> std::result::Result<Connection, Unusable> {
    let file = file(folder);
    if file.exists() {
        inspect(&file)?;
    }
    let mut connection = Connection::open(file)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    flush(&connection, flush_to_disk)?;
    connection.pragma_update(None, "secure_delete", "ON")?;
    connection.pragma_update(None, "journal_size_limit", LARGEST_IDLE_JOURNAL)?;
    connection.pragma_update(None, "max_page_count", MOST_PAGES)?;
    migrations::migrate(&mut connection, MIGRATIONS)?;
    prepare(&connection)?;
    Ok(connection)
}

/// Opens a connection that merges the write-ahead log into the database.
pub(crate) fn open_to_merge(folder: &Path, flush_to_disk: bool) -> Result<Connection> {
    let connection = Connection::open(file(folder))?;
    flush(&connection, flush_to_disk)?;
    prepare(&connection)?;
    Ok(connection)
}

/// Configures flushes. On macOS, for example, a plain flush ends in the cache of the disk, so SQLite is told to use a
/// full flush.
fn flush(connection: &Connection, flush_to_disk: bool) -> Result<()> {
    connection.pragma_update(None, "fullfsync", "ON")?;
    connection.pragma_update(None, "checkpoint_fullfsync", "ON")?;
    let synchronous = if flush_to_disk { "FULL" } else { "OFF" };
    connection.pragma_update(None, "synchronous", synchronous)
}

/// Opens a connection that only reads.
pub(crate) fn open_reader(folder: &Path) -> Result<Connection> {
    open_to_read(&file(folder))
}

fn open_to_read(file: &Path) -> Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(file, flags)?;
    prepare(&connection)?;
    Ok(connection)
}

/// Limits the page cache of a connection.
pub(super) fn bound_cache(connection: &Connection, bytes: usize) -> Result<()> {
    let kibibytes = i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    // SQLite takes a negative number as KiB, a positive one as pages.
    connection.pragma_update(None, "cache_size", -kibibytes)
}

/// The database file and its write-ahead log.
pub(super) fn files(folder: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("db", folder.join(FILE)),
        ("wal", folder.join(format!("{FILE}-wal"))),
    ]
}

/// Opens the database of a folder for reading, whether or not a server uses it.
pub(super) fn inspect_folder(folder: &Path) -> std::result::Result<Connection, Unusable> {
    ensure_not_restoring(folder)?;
    inspect(&file(folder))
}

/// While a restore is running, or after it was interrupted, the files in the folder may belong to two databases.
fn ensure_not_restoring(folder: &Path) -> std::result::Result<(), Unusable> {
    if restored_file(folder).exists() {
        return Err(Unusable::Restoring);
    }
    Ok(())
}

/// Opens a database file for reading, whether or not a server uses it.
pub(crate) fn inspect(file: &Path) -> std::result::Result<Connection, Unusable> {
    let connection = open_to_read(file)?;
    migrations::version(&connection, MIGRATIONS.len())?;
    Ok(connection)
}

/// Opens the database of a folder for reading, if it has the newest layout.
pub(super) fn inspect_newest(folder: &Path) -> std::result::Result<Connection, Unusable> {
    ensure_not_restoring(folder)?;
    let connection = open_to_read(&file(folder))?;
    let known = MIGRATIONS.len();
    let found = migrations::version(&connection, known)?;
    if found < known {
        return Err(Unusable::Older { found, known });
    }
    Ok(connection)
}

/// SQLite keeps temporary data in memory, so that none of it stays on disk.
fn prepare(connection: &Connection) -> Result<()> {
    connection.busy_timeout(PATIENCE)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flush_passes_the_cache_of_the_disk_where_that_must_be_requested() {
        let folder = tempfile::tempdir().unwrap();
        let pragma = |connection: &Connection, name| {
            let value = connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
            value.unwrap()
        };
        for (flush_to_disk, synchronous) in [(true, 2), (false, 0)] {
            let writer = open_writer(folder.path(), flush_to_disk).unwrap();
            let merging = open_to_merge(folder.path(), flush_to_disk).unwrap();
            for connection in [writer, merging] {
                assert_eq!(pragma(&connection, "synchronous"), synchronous);
                assert_eq!(pragma(&connection, "fullfsync"), 1);
                assert_eq!(pragma(&connection, "checkpoint_fullfsync"), 1);
            }
        }
    }
}
