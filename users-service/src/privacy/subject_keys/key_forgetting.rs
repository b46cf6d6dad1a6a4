//! Removes keys from the database so that no file of it has their bytes.
//!
//! Invariants:
//! - When [`forget`] returns, the keys are on the list of destroyed keys, and their bytes are in no file, durably.
//! - Every step can be repeated, and several processes may take the steps at once.
//! - Readers never wait for a reader that a rewrite waits for, beyond [`LOCK_TIMEOUT`].

use super::partitions::{name, partitions_of};
use super::{KeyId, KeysError, key_id, rows_of_ids};
use crate::database::server_log::{self, LogError};
use crate::database::{Database, Dialect, empty_log, over_rows};
use sqlx::AssertSqlSafe;
use sqlx::error::DatabaseError;
use std::time::Duration;

/// How long a rewrite waits for readers of its partition, and new readers for it.
const LOCK_TIMEOUT: &str = "100ms";
/// How often a rewrite is attempted: for five seconds, as long as SQLite waits for a lock.
const REWRITES: u32 = 50;
/// The code of an exceeded `lock_timeout`.
const LOCK_NOT_AVAILABLE: &str = "55P03";

/// Keys were not removed, or not from every file.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Database(#[from] sqlx::Error),
    #[error(transparent)]
    Keys(#[from] KeysError),
    #[error("readers kept the write-ahead log from being emptied")]
    Busy,
    #[error("readers kept the table {0} from being rewritten")]
    Locked(String),
    #[error(transparent)]
    Log(#[from] LogError),
}

/// Destroys the keys of these ids, which are sorted.
pub(super) async fn forget(database: &Database, ids: &[KeyId]) -> Result<(), Failure> {
    match database.dialect() {
        Dialect::Sqlite => forget_in_file(database, ids).await,
        Dialect::Postgres => forget_on_server(database, ids).await,
    }
}

/// Puts the ids on the list of destroyed keys. (Without the condition, SQLite takes ON for a part of a join.)
fn listing(database: &Database) -> &'static str {
    database.text(over_rows!(
        "INSERT INTO destroyed (id) SELECT unhex(value ->> 0) FROM ",
        ROWS,
        " WHERE true ON CONFLICT DO NOTHING"
    ))
}

async fn forget_in_file(database: &Database, ids: &[KeyId]) -> Result<(), Failure> {
    let rows = rows_of_ids(ids);
    let mut transaction = database.begin().await?;
    for statement in [
        listing(database),
        "DELETE FROM keys WHERE id IN (SELECT unhex(value ->> 0) FROM json_each($1))",
    ] {
        let query = sqlx::query(statement).bind(&rows);
        query.execute(&mut *transaction).await?;
    }
    transaction.commit().await?;
    if empty_log(database.pool()).await? {
        Ok(())
    } else {
        Err(Failure::Busy)
    }
}

async fn forget_on_server(database: &Database, ids: &[KeyId]) -> Result<(), Failure> {
    let list = sqlx::query(listing(database)).bind(rows_of_ids(ids));
    list.execute(database.pool()).await?;
    for partition in partitions_of(&present(database, ids).await?) {
        rewrite(database, &name(partition)).await?;
    }
    Ok(server_log::discard(database).await?)
}

/// Those ids whose keys are in the table.
async fn present(database: &Database, ids: &[KeyId]) -> Result<Vec<KeyId>, Failure> {
    let present: Vec<Vec<u8>> = sqlx::query_scalar(
        "SELECT unhex(value ->> 0) FROM json_array_elements($1::json)
         WHERE (SELECT count(*) FROM keys WHERE id = unhex(value ->> 0)) > 0",
    )
    .bind(rows_of_ids(ids))
    .fetch_all(database.pool())
    .await?;
    let ids = present.iter().map(|id| key_id(id));
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Writes the partition again, without the keys that are on the list.
async fn rewrite(database: &Database, table: &str) -> Result<(), Failure> {
    for _ in 0..REWRITES {
        let rewrite = sqlx::raw_sql(AssertSqlSafe(rewriting(table)));
        match rewrite.execute(database.pool()).await {
            Ok(_) => return Ok(()),
            Err(error) if is_locked(&error) => {
                let pause = Duration::from_millis(rand::random_range(5..=25));
                tokio::time::sleep(pause).await;
            }
            Err(error) => return Err(error.into()),
        }
    }
    Err(Failure::Locked(table.to_owned()))
}

/// `TRUNCATE` gives the table new files and empties the old ones, whatever other transactions may still see. (A `DELETE` leaves
/// the bytes in the page, and `VACUUM FULL` copies rows that an older transaction may see.) Statements of the store are
/// transactions of their own, and take their view of the data after their locks, so none sees the table empty.
fn rewriting(table: &str) -> String {
    format!(
        "DO $$ DECLARE kept {table}[]; BEGIN
             PERFORM set_config('lock_timeout', '{LOCK_TIMEOUT}', true);
             LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE;
             kept := ARRAY(SELECT key FROM {table} key
                 WHERE NOT EXISTS (SELECT FROM destroyed WHERE destroyed.id = key.id));
             TRUNCATE {table};
             INSERT INTO {table} SELECT * FROM unnest(kept);
         END $$"
    )
}

fn is_locked(error: &sqlx::Error) -> bool {
    let code = error.as_database_error().and_then(DatabaseError::code);
    code.is_some_and(|code| code == LOCK_NOT_AVAILABLE)
}
