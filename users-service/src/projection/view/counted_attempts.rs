//! Counted attempts at events, because an event may kill the process that applies it.
//!
//! Many events are tried together at first. Only if a process ended meanwhile, each is tried alone and counted.

use super::View;
use crate::domain::UserId;
use crate::read_model::number;
use std::collections::HashSet;

/// An event that was tried this many times and never finished is not tried again.
const MOST_ATTEMPTS: i64 = 3;

impl View {
    /// Notes, durably, that events of the log are going to be applied together. Returns false if a process has noted this and
    /// not [`finished`](Self::finish_together): it may have been killed by one of them.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn begin_together(&self) -> Result<bool, sqlx::Error> {
        let note = "INSERT INTO together (single) VALUES (1) ON CONFLICT DO NOTHING";
        let noted = sqlx::query(note).execute(self.generation().durable());
        Ok(noted.await?.rows_affected() > 0)
    }

    /// Notes that this process has survived.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn finish_together(&self) -> Result<(), sqlx::Error> {
        let finish = sqlx::query("DELETE FROM together");
        let executed = finish.execute(self.generation().writing().pool());
        executed.await.map(drop)
    }

    /// Counts an attempt before it is made. Returns false if the event was tried too often. The set has the events whose attempt
    /// this process has counted and could not take back, because the database failed; they are not counted again.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn begin_attempt(
        &self,
        event: (UserId, u64),
        counted: &mut HashSet<(UserId, u64)>,
    ) -> Result<bool, sqlx::Error> {
        if !counted.contains(&event) {
            if self.attempts(event).await? >= MOST_ATTEMPTS {
                return Ok(false);
            }
            self.count_attempt(event).await?;
            counted.insert(event);
        }
        Ok(true)
    }

    /// Holds the user at an event of the log that was tried too often, unless it is applied.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn give_up(
        &self,
        (user, revision): (UserId, u64),
    ) -> Result<(), sqlx::Error> {
        let standing = self.standing(user).await?;
        if !standing.held && standing.revision() < Some(revision) {
            let reason = "it was tried three times and never finished";
            self.hold(user, revision, reason).await?;
        }
        Ok(())
    }

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
