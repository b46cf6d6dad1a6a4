//! Options of this service's SQLite files.

use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqliteSynchronous};
use std::path::Path;
use std::time::Duration;

/// The number of connections to one file.
pub(crate) const CONNECTIONS: u32 = 4;

/// Creates a missing file. Commits are durable, and deleted content is overwritten.
pub(crate) fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(Duration::from_secs(5))
        .pragma("secure_delete", "ON")
        // On macOS a plain fsync leaves the bytes in the disk's cache. Elsewhere these two change nothing.
        .pragma("fullfsync", "ON")
        .pragma("checkpoint_fullfsync", "ON")
}

/// For a file that can be rebuilt from the log. A commit survives the process, but reaches the disk only with a later flush. A
/// crash of the machine takes the file back to an earlier commit.
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
