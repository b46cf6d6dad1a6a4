//! Counts the attempts at messages that were delivered before, durably, so that a message that kills the process is found.
//!
//! Invariant: the file holds keyed hashes of messages, and no personal data.

use crate::clock::Clock;
use crate::database::{Database, Databases, Durability};
use sqlx::AnyPool;
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The name of the database.
const NAME: &str = "commands";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS attempts (
        message TEXT PRIMARY KEY,
        attempts BIGINT NOT NULL,
        counted BIGINT NOT NULL
    )";

/// A count that nobody has changed for so many milliseconds belongs to a message that will not come again.
const KEPT: u64 = 30 * 24 * 60 * 60 * 1_000;

/// The keyed hash of a message.
pub(super) type MessageHash = [u8; 32];

/// The counted attempts, in one database. All processes of the service share it.
#[derive(Debug, Clone)]
pub struct Attempts {
    databases: Databases,
    /// Opened when it is needed.
    opened: Arc<OnceCell<Database>>,
    clock: Clock,
}

impl Attempts {
    /// The attempts in this place. The database is opened when it is needed. Then old counts are deleted.
    #[must_use]
    pub fn new(databases: Databases) -> Self {
        Self {
            databases,
            opened: Arc::default(),
            clock: Clock::of_machine(),
        }
    }

    async fn pool(&self) -> Result<&AnyPool, sqlx::Error> {
        let opened = self.opened.get_or_try_init(|| self.open()).await?;
        Ok(opened.pool())
    }

    async fn open(&self) -> Result<Database, sqlx::Error> {
        let database = self.databases.open(NAME, Durability::AtOnce).await?;
        sqlx::raw_sql(SCHEMA).execute(database.pool()).await?;
        let forget = sqlx::query("DELETE FROM attempts WHERE counted < $1");
        let forget = forget.bind(millis(self.clock.now().saturating_sub(KEPT)));
        forget.execute(database.pool()).await?;
        Ok(database)
    }

    /// How many attempts at the message have begun and not ended.
    pub(super) async fn unfinished(&self, message: &MessageHash) -> Result<i64, sqlx::Error> {
        let attempts = sqlx::query_scalar("SELECT attempts FROM attempts WHERE message = $1")
            .bind(hex::encode(message))
            .fetch_optional(self.pool().await?)
            .await?;
        Ok(attempts.unwrap_or(0))
    }

    /// Counts an attempt, before it is made.
    pub(super) async fn count(&self, message: &MessageHash) -> Result<(), sqlx::Error> {
        let count = sqlx::query(
            "INSERT INTO attempts (message, attempts, counted) VALUES ($1, 1, $2)
             ON CONFLICT (message) DO UPDATE SET attempts = attempts.attempts + 1, counted = $2",
        );
        let count = count
            .bind(hex::encode(message))
            .bind(millis(self.clock.now()));
        count.execute(self.pool().await?).await.map(drop)
    }

    /// Takes back a counted attempt. It ended without an outcome, and the process survived it.
    pub(super) async fn discount(&self, message: &MessageHash) -> Result<(), sqlx::Error> {
        let discount = "UPDATE attempts SET attempts = attempts - 1 WHERE message = $1";
        self.change(discount, message).await
    }

    /// Forgets the message, because it has an outcome.
    pub(super) async fn forget(&self, message: &MessageHash) -> Result<(), sqlx::Error> {
        self.change("DELETE FROM attempts WHERE message = $1", message)
            .await
    }

    async fn change(&self, change: &'static str, message: &MessageHash) -> Result<(), sqlx::Error> {
        let change = sqlx::query(change).bind(hex::encode(message));
        change.execute(self.pool().await?).await.map(drop)
    }
}

fn millis(time: u64) -> i64 {
    i64::try_from(time).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn attempts_are_counted_over_restarts_until_the_message_has_an_outcome() {
        let folder = tempfile::tempdir().unwrap();
        let databases = Databases::Folder(folder.path().to_owned());
        let (message, other) = ([1; 32], [2; 32]);
        let attempts = Attempts::new(databases.clone());
        attempts.count(&message).await.unwrap();
        attempts.count(&message).await.unwrap();
        attempts.discount(&message).await.unwrap();
        attempts.discount(&other).await.unwrap();
        attempts.count(&message).await.unwrap();
        let attempts = Attempts::new(databases.clone());
        assert_eq!(attempts.unfinished(&message).await.unwrap(), 2);
        assert_eq!(attempts.unfinished(&other).await.unwrap(), 0);
        attempts.forget(&message).await.unwrap();
        assert_eq!(attempts.unfinished(&message).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_count_of_a_month_ago_is_forgotten_at_start() {
        let folder = tempfile::tempdir().unwrap();
        let databases = Databases::Folder(folder.path().to_owned());
        let attempts = Attempts::new(databases.clone());
        for (message, days) in [([1; 32], 29), ([2; 32], 31)] {
            let then = attempts.clock.now() - days * 24 * 60 * 60 * 1_000;
            let counted = Attempts {
                clock: Clock::new(move || then),
                ..attempts.clone()
            };
            counted.count(&message).await.unwrap();
        }
        let attempts = Attempts::new(databases.clone());
        assert_eq!(attempts.unfinished(&[1; 32]).await.unwrap(), 1);
        assert_eq!(attempts.unfinished(&[2; 32]).await.unwrap(), 0);
    }
}
