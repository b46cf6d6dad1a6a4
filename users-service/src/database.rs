//! Options of this service's SQLite files.

use sqlx::Connection as _;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous,
};
use std::path::Path;
use std::time::Duration;

/// The number of connections to one file.
pub(crate) const CONNECTIONS: u32 = 4;

/// A pool of so many connections. It closes a connection whose transaction cannot be rolled back.
pub(crate) fn pool(connections: u32) -> SqlitePoolOptions {
    let options = SqlitePoolOptions::new().max_connections(connections);
    options.after_release(|connection, _| Box::pin(is_usable(connection)))
}

/// On a full disk SQLite rolls a transaction back by itself. `sqlx` does not notice: its own rollback fails, and it would refuse
/// every further transaction on this connection.
async fn is_usable(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A dropped transaction is rolled back before the answer.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

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
    use super::{options, pool};
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
    /// SQLite itself ends the transaction when the file may have no more pages.
    #[tokio::test]
    async fn a_transaction_that_a_full_disk_ended_leaves_no_connection_unusable() {
        let folder = tempfile::tempdir().unwrap();
        let small = options(&folder.path().join("a.db")).pragma("max_page_count", "8");
        let pool = pool(1).connect_with(small).await.unwrap();
        let create = sqlx::query("CREATE TABLE blobs (bytes BLOB)");
        create.execute(&pool).await.unwrap();
        for attempt in 0..3 {
            let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
            let fill = sqlx::query("INSERT INTO blobs VALUES (zeroblob(100000))");
            let error = fill.execute(&mut *transaction).await.unwrap_err();
            assert!(
                error.to_string().contains("disk is full"),
                "{attempt}: {error}"
            );
        }
        let fits = sqlx::query("INSERT INTO blobs VALUES (zeroblob(1))");
        let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await.unwrap();
        fits.execute(&mut *transaction).await.unwrap();
        transaction.commit().await.unwrap();
    }

    #[tokio::test]
    async fn a_connection_whose_transaction_was_dropped_stays_in_the_pool() {
        let folder = tempfile::tempdir().unwrap();
        let options = options(&folder.path().join("a.db"));
        let pool = pool(1).connect_with(options).await.unwrap();
        let mark = sqlx::query("CREATE TEMPORARY TABLE mark (of_connection INTEGER)");
        mark.execute(&pool).await.unwrap();
        drop(pool.begin_with("BEGIN IMMEDIATE").await.unwrap());
        let find = sqlx::query("SELECT * FROM mark");
        find.fetch_all(&pool).await.unwrap();
    }
}
