//! Counted attempts at messages that were delivered before.

use super::View;
use crate::domain::UserId;
use crate::read_model::number;

impl View {
    /// How many times this event was tried.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attempts(&self, event: (UserId, u64)) -> Result<i64, sqlx::Error> {
        let attempts =
            sqlx::query_scalar("SELECT attempts FROM attempts WHERE id = $1 AND revision = $2")
                .bind(number(event.0.number()))
                .bind(number(event.1))
                .fetch_optional(self.generation().pool())
                .await?;
        Ok(attempts.unwrap_or(0))
    }

    /// Counts an attempt, durably, before it is made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_attempt(&self, event: (UserId, u64)) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO attempts (id, revision, attempts) VALUES ($1, $2, 1)
             ON CONFLICT (id, revision) DO UPDATE SET attempts = attempts.attempts + 1",
        )
        .bind(number(event.0.number()))
        .bind(number(event.1))
        .execute(self.generation().durable())
        .await
        .map(drop)
    }

    /// Takes back a counted attempt, because it ended and the process survived it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn discount_attempt(&self, event: (UserId, u64)) -> Result<(), sqlx::Error> {
        for statement in [
            "UPDATE attempts SET attempts = attempts - 1 WHERE id = $1 AND revision = $2",
            "DELETE FROM attempts WHERE id = $1 AND revision = $2 AND attempts <= 0",
        ] {
            let query = sqlx::query(statement).bind(number(event.0.number()));
            let query = query.bind(number(event.1));
            query.execute(self.generation().pool()).await?;
        }
        Ok(())
    }

    /// Forgets all attempts, because one has succeeded. Attempts are kept until then even if the event is applied meanwhile: its
    /// message is still in the queue, and may kill the process again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_attempts(&self, event: (UserId, u64)) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM attempts WHERE id = $1 AND revision = $2")
            .bind(number(event.0.number()))
            .bind(number(event.1))
            .execute(self.generation().pool())
            .await
            .map(drop)
    }
}
