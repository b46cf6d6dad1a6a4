//! The write-ahead log of a PostgreSQL server, which has what was written before.

use super::Database;

/// The log was not discarded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(
        "the server keeps {0} old segments of its write-ahead log, which may have what was deleted: look for replication slots, archiving that fails, and the settings wal_keep_size and wal_recycle"
    )]
    Kept(i64),
}

/// Makes the server delete its emptied files, and every segment of its write-ahead log up to now, and checks that it did.
pub(crate) async fn discard(database: &Database) -> Result<(), LogError> {
    let last: String = sqlx::query_scalar("SELECT pg_walfile_name(pg_switch_wal())")
        .fetch_one(database.pool())
        .await?;
    sqlx::raw_sql("CHECKPOINT").execute(database.pool()).await?;
    // The first eight digits are the timeline. Segments are numbered across timelines.
    let kept: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM pg_ls_waldir()
         WHERE name ~ '^[0-9A-F]{24}(.partial)?$' AND substr(name, 9, 16) <= substr($1, 9, 16)
             OR (SELECT setting FROM pg_settings WHERE name = 'wal_recycle') <> 'off'",
    )
    .bind(last)
    .fetch_one(database.pool())
    .await?;
    if kept == 0 {
        Ok(())
    } else {
        Err(LogError::Kept(kept))
    }
}
