//! Removes what erased users leave behind in the files of the database.
//!
//! Invariants:
//! - In SQLite erased data is in neither the file nor its write-ahead log when [`View::apply`](super::View::apply) returns.
//! - In PostgreSQL the transaction of an erasure counts it as erased. It counts as removed when no file of the server has the
//!   data: after its tables were written again and the write-ahead log of before is gone. Both counts survive a crash.
//! - A rewrite excludes writers. Readers wait only while the tables are exchanged, and at most [`LOCK_TIMEOUT`] at a time.

use super::Target;
use crate::database::server_log::{self, LogError};
use crate::database::{Dialect, empty_log};
use crate::read_model::rewriting;
use sqlx::{AnyConnection, AssertSqlSafe};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio_util::sync::{CancellationToken, DropGuard};

/// How long readers may delay the emptying of the write-ahead log of a file.
const EMPTY_WITHIN: Duration = Duration::from_secs(2);

/// The usual pause between two rewrites.
pub(super) const PAUSE: Duration = Duration::from_mins(1);

/// A pause is at least so many times as long as the rewrite before.
const PAUSE_PER_REWRITE: u32 = 50;

const COUNT_ERASURE: &str = "
    INSERT INTO erasures (single, erased, removed) VALUES (1, 1, 0)
    ON CONFLICT (single) DO UPDATE SET erased = erasures.erased + 1";

const COUNT_REMOVED: &str =
    "UPDATE erasures SET removed = CASE WHEN removed < $1 THEN $1 ELSE removed END";

/// Empties the write-ahead log of a file. It never waits inside the database, because all writers would wait too. A server's is
/// not emptied at once.
pub(super) async fn at_once(target: &Target) -> Result<(), sqlx::Error> {
    if target.dialect() == Dialect::Postgres {
        return Ok(());
    }
    let emptying = async {
        loop {
            if empty_log(target.generation.impatient()).await? {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(rand::random_range(5..=25))).await;
        }
    };
    let busy = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the log is in use").into());
    tokio::time::timeout(EMPTY_WITHIN, emptying)
        .await
        .unwrap_or_else(busy)
}

/// Counts an erasure, in its transaction.
pub(super) async fn count_erasure(transaction: &mut AnyConnection) -> Result<(), sqlx::Error> {
    let count = sqlx::query(COUNT_ERASURE);
    count.execute(transaction).await.map(drop)
}

/// Starts the task that removes what erasures leave on a server. It ends when the guard is dropped.
pub(super) fn start(target: Target, pause: Duration) -> Arc<DropGuard> {
    let shutdown = CancellationToken::new();
    tokio::spawn(
        shutdown
            .clone()
            .run_until_cancelled_owned(run(target, pause)),
    );
    Arc::new(shutdown.drop_guard())
}

async fn run(target: Target, least: Duration) {
    let mut pause = least;
    loop {
        tokio::time::sleep(pause).await;
        let begun = Instant::now();
        if let Err(error) = remove(&target).await {
            let error: &dyn std::error::Error = &error;
            let read_model = target.generation.read_model();
            tracing::warn!(
                error,
                read_model,
                "erased data is still in the files of the server"
            );
        }
        pause = least.max(begun.elapsed() * PAUSE_PER_REWRITE);
    }
}

/// Removes what erasures have left on the server.
async fn remove(target: &Target) -> Result<(), LogError> {
    let database = target.generation.database();
    let left = "SELECT erased FROM erasures WHERE erased > removed";
    let left = sqlx::query(left).fetch_optional(database.pool()).await?;
    if left.is_none() {
        return Ok(());
    }
    let removed = rewrite(target).await?;
    server_log::discard(database).await?;
    let count = sqlx::query(COUNT_REMOVED).bind(removed);
    count.execute(target.generation.durable()).await?;
    Ok(())
}

/// Writes the tables again, without what was deleted. Returns the number of erasures until then.
async fn rewrite(target: &Target) -> Result<i64, sqlx::Error> {
    let mut transaction = target.begin().await?;
    let erased = sqlx::query_scalar("SELECT erased FROM erasures");
    let erased = erased.fetch_one(&mut *transaction).await?;
    let rewriting = rewriting(target.projection.tables_of_users());
    let rewrite = sqlx::raw_sql(AssertSqlSafe(rewriting));
    rewrite.execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(erased)
}
