//! The tables beside the rows: attempts, and the position of completeness.

use super::{View, number};
use crate::domain::UserId;
use event_streams::Position;

const GENERATION: i64 = 1;

impl View {
    /// How many times this event was tried.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn attempts(&self, event: (UserId, u64)) -> Result<i64, sqlx::Error> {
        let attempts =
            sqlx::query_scalar("SELECT attempts FROM attempts WHERE id = ? AND revision = ?")
                .bind(number(event.0.number()))
                .bind(number(event.1))
                .fetch_optional(self.read_model.pool())
                .await?;
        Ok(attempts.unwrap_or(0))
    }

    /// Counts an attempt, durably, before it is made.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn count_attempt(&self, event: (UserId, u64)) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO attempts (id, revision, attempts) VALUES (?, ?, 1)
             ON CONFLICT DO UPDATE SET attempts = attempts + 1",
        )
        .bind(number(event.0.number()))
        .bind(number(event.1))
        .execute(self.read_model.durable())
        .await
        .map(drop)
    }

    /// Takes back a counted attempt, because it ended and the process survived it.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn discount_attempt(&self, event: (UserId, u64)) -> Result<(), sqlx::Error> {
        for statement in [
            "UPDATE attempts SET attempts = attempts - 1 WHERE id = ? AND revision = ?",
            "DELETE FROM attempts WHERE id = ? AND revision = ? AND attempts <= 0",
        ] {
            let query = sqlx::query(statement).bind(number(event.0.number()));
            let query = query.bind(number(event.1));
            query.execute(self.read_model.pool()).await?;
        }
        Ok(())
    }

    /// Forgets all attempts, because one has succeeded. Attempts are kept until then even if the event is applied meanwhile: its
    /// message is still in the queue, and may kill the process again.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_attempts(&self, event: (UserId, u64)) -> Result<(), sqlx::Error> {
        sqlx::query("DELETE FROM attempts WHERE id = ? AND revision = ?")
            .bind(number(event.0.number()))
            .bind(number(event.1))
            .execute(self.read_model.pool())
            .await
            .map(drop)
    }

    /// The log position up to which every event is applied or its user is held. `None` at the beginning.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn complete_up_to(&self) -> Result<Option<Position>, sqlx::Error> {
        let position =
            "SELECT commit_position, prepare_position FROM completeness WHERE generation = ?";
        let position: Option<(i64, i64)> = sqlx::query_as(position)
            .bind(GENERATION)
            .fetch_optional(self.read_model.pool())
            .await?;
        // A negative number becomes a position beyond the end of every log.
        Ok(position.map(|(commit, prepare)| Position {
            commit: commit.cast_unsigned(),
            prepare: prepare.cast_unsigned(),
        }))
    }

    /// Forgets that position, so that the comparison starts from the beginning.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn compare_again(&self) -> Result<(), sqlx::Error> {
        let forget = sqlx::query("DELETE FROM completeness WHERE generation = ?").bind(GENERATION);
        forget.execute(self.read_model.pool()).await.map(drop)
    }

    /// Moves that position forward, and never back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn advance(&self, position: Position) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO completeness (generation, commit_position, prepare_position) VALUES (?, ?, ?)
             ON CONFLICT DO UPDATE SET commit_position = excluded.commit_position,
                                       prepare_position = excluded.prepare_position
             WHERE commit_position < excluded.commit_position",
        )
        .bind(GENERATION)
        .bind(number(position.commit))
        .bind(number(position.prepare))
        .execute(self.read_model.pool())
        .await
        .map(drop)
    }
}
