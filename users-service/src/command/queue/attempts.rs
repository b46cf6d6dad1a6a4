//! Counts the attempts at messages that were delivered before, durably, so that a message that kills the process is found.
//!
//! Invariant: the file holds keyed hashes of messages, and no personal data.

use crate::database::{self, CONNECTIONS};
use sqlx::SqlitePool;
use std::path::Path;

/// A count that nobody has changed for thirty days belongs to a message that will not come again. It is deleted at start.
const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS attempts (
        message BLOB PRIMARY KEY,
        attempts INTEGER NOT NULL,
        counted INTEGER NOT NULL
    ) WITHOUT ROWID;
    DELETE FROM attempts WHERE counted < unixepoch() - 30 * 24 * 60 * 60;";

/// The keyed hash of a message.
pub(super) type MessageHash = [u8; 32];

/// The counted attempts, in one SQLite file. The processes on one machine share it.
#[derive(Debug, Clone)]
pub struct Attempts(SqlitePool);

impl Attempts {
    /// Opens the file. A missing file is created.
    ///
    /// # Errors
    /// If the file cannot be opened.
    pub async fn open(path: &Path) -> Result<Self, sqlx::Error> {
        let pool = database::pool(CONNECTIONS)
            .connect_with(database::options(path))
            .await?;
        sqlx::raw_sql(SCHEMA).execute(&pool).await?;
        Ok(Self(pool))
    }

    /// How many attempts at the message have begun and not ended.
    pub(super) async fn unfinished(&self, message: &MessageHash) -> Result<i64, sqlx::Error> {
        let attempts = sqlx::query_scalar("SELECT attempts FROM attempts WHERE message = ?")
            .bind(message.as_slice())
            .fetch_optional(&self.0)
            .await?;
        Ok(attempts.unwrap_or(0))
    }

    /// Counts an attempt, before it is made.
    pub(super) async fn count(&self, message: &MessageHash) -> Result<(), sqlx::Error> {
        let count = "INSERT INTO attempts (message, attempts, counted) VALUES (?, 1, unixepoch())
             ON CONFLICT DO UPDATE SET attempts = attempts + 1, counted = unixepoch()";
        self.change(count, message).await
    }

    /// Takes back a counted attempt. It ended without an outcome, and the process survived it.
    pub(super) async fn discount(&self, message: &MessageHash) -> Result<(), sqlx::Error> {
        let discount = "UPDATE attempts SET attempts = attempts - 1 WHERE message = ?";
        self.change(discount, message).await
    }

    /// Forgets the message, because it has an outcome.
    pub(super) async fn forget(&self, message: &MessageHash) -> Result<(), sqlx::Error> {
        self.change("DELETE FROM attempts WHERE message = ?", message)
            .await
    }

    async fn change(&self, change: &'static str, message: &MessageHash) -> Result<(), sqlx::Error> {
        let change = sqlx::query(change).bind(message.as_slice());
        change.execute(&self.0).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::Attempts;

    #[tokio::test]
    async fn attempts_are_counted_over_restarts_until_the_message_has_an_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("commands.db");
        let (message, other) = ([1; 32], [2; 32]);
        let attempts = Attempts::open(&file).await.unwrap();
        attempts.count(&message).await.unwrap();
        attempts.count(&message).await.unwrap();
        attempts.discount(&message).await.unwrap();
        attempts.discount(&other).await.unwrap();
        attempts.count(&message).await.unwrap();
        let attempts = Attempts::open(&file).await.unwrap();
        assert_eq!(attempts.unfinished(&message).await.unwrap(), 2);
        assert_eq!(attempts.unfinished(&other).await.unwrap(), 0);
        attempts.forget(&message).await.unwrap();
        assert_eq!(attempts.unfinished(&message).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_count_of_a_month_ago_is_forgotten_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("commands.db");
        let attempts = Attempts::open(&file).await.unwrap();
        for (message, days) in [([1; 32], 29), ([2; 32], 31)] {
            attempts.count(&message).await.unwrap();
            let age = sqlx::query("UPDATE attempts SET counted = counted - ? WHERE message = ?");
            let age = age.bind(days * 24 * 60 * 60).bind(message.as_slice());
            age.execute(&attempts.0).await.unwrap();
        }
        let attempts = Attempts::open(&file).await.unwrap();
        assert_eq!(attempts.unfinished(&[1; 32]).await.unwrap(), 1);
        assert_eq!(attempts.unfinished(&[2; 32]).await.unwrap(), 0);
    }
}
