//! How connections to the database are opened. [`super::migrations`] makes the tables: `events` is kept in
//! the order of the log; `streams` has one row for every stream that has events or metadata, with the limits
//! that its metadata sets; `log` has the last position that was given out, so that none is given out twice.

use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, Result};

use super::migrations::{self, MIGRATIONS};
use super::unusable::Unusable;

const FILE: &str = "events.db";
/// A database that a restore has made, until it has taken the place of the other. If there is one, it is the database.
const RESTORED: &str = "events.db.restored";

/// To this many bytes the write-ahead log is cut when it begins anew.
const LARGEST_IDLE_JOURNAL: i64 = 64 * 1024 * 1024;

/// How long a connection waits for the locks of others.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);

/// With no more pages than this, 128 GB, the first byte of a page tells whether it is one of a tree: all others
/// begin with the number of a page.
pub(super) const MOST_PAGES: u32 = (2 << 24) - 1;

/// The database of a folder; SQLite puts `-wal` and `-shm` after its name for those beside it.
pub(crate) fn file(folder: &Path) -> PathBuf {
    folder.join(FILE)
}

pub(super) fn restored_file(folder: &Path) -> PathBuf {
    folder.join(RESTORED)
}

/// Opens the one connection that writes, and makes what is missing. Deleted content is overwritten, so
/// that erased data is in no file. A database that this program cannot use is not changed.
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

/// How far a flush goes. Where a plain one ends in the cache of the disk, as on macOS, SQLite is to ask for a full one.
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

/// Keeps at most so many bytes of the database in the connection's memory.
pub(super) fn bound_cache(connection: &Connection, bytes: usize) -> Result<()> {
    let kibibytes = i64::try_from(bytes / 1024).unwrap_or(i64::MAX);
    // A negative number means kibibytes, a positive one pages.
    connection.pragma_update(None, "cache_size", -kibibytes)
}

/// The file of the database, and its write-ahead log.
pub(super) fn files(folder: &Path) -> [(&'static str, PathBuf); 2] {
    [
        ("db", folder.join(FILE)),
        ("wal", folder.join(format!("{FILE}-wal"))),
    ]
}

/// Opens the database of a folder to look at it, beside a server or not.
pub(super) fn inspect_folder(folder: &Path) -> std::result::Result<Connection, Unusable> {
    ensure_not_restoring(folder)?;
    inspect(&file(folder))
}

/// While a restore is at work, or after it was cut, the folder may have half of one database and half of another.
fn ensure_not_restoring(folder: &Path) -> std::result::Result<(), Unusable> {
    if restored_file(folder).exists() {
        return Err(Unusable::Restoring);
    }
    Ok(())
}

/// Opens a database file to look at it, beside a server or not.
pub(crate) fn inspect(file: &Path) -> std::result::Result<Connection, Unusable> {
    let connection = open_to_read(file)?;
    migrations::version(&connection, MIGRATIONS.len())?;
    Ok(connection)
}

/// Opens the database of a folder that has the newest layout.
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

/// What SQLite would put into temporary files stays in memory, so that it is not left on disk.
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
    fn a_flush_goes_through_the_cache_of_the_disk_where_that_must_be_asked_for() {
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
