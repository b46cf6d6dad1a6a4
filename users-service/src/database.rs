//! How the SQLite files of this service are opened.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

/// How many connections to one file read at once.
pub(crate) const CONNECTIONS: u32 = 4;

/// A file that is made if it is missing, in which a commit is durable and deleted content is overwritten.
pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("secure_delete", "ON")
        // On macOS a plain fsync leaves the bytes in the cache of the disk. Elsewhere these two change nothing.
        .pragma("fullfsync", "ON")
        .pragma("checkpoint_fullfsync", "ON")
}

/// A file whose content can be read from the log again: a commit survives the process, but is flushed only with a later
/// flush. A crash of the machine puts the file back to one of its former states, with nothing missing between commits.
pub(crate) fn rebuildable(path: &Path) -> SqliteConnectOptions {
    options(path).synchronous(SqliteSynchronous::Normal)
}

#[cfg(test)]
mod tests {
    use super::options;
    use sqlx::{ConnectOptions as _, Row as _};

    #[tokio::test]
    async fn a_flush_goes_through_the_cache_of_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut connection = options(&folder.path().join("a.db"))
            .connect()
            .await
            .unwrap();
        for (pragma, expected) in [
            ("fullfsync", 1_i64),
            ("checkpoint_fullfsync", 1),
            ("secure_delete", 1),
        ] {
            let read = sqlx::query(sqlx::AssertSqlSafe(format!("PRAGMA {pragma}")));
            let row = read.fetch_one(&mut connection).await.unwrap();
            assert_eq!(row.get::<i64, _>(0), expected, "{pragma}");
        }
    }
}
