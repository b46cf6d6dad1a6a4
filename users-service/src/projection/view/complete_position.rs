//! The log position up to which a read model is complete.

use super::View;
use crate::read_model::number;
use event_streams::Position;

impl View {
    /// The log position up to which every event is applied or its user is held. `None` at the beginning.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn complete_up_to(&self) -> Result<Option<Position>, sqlx::Error> {
        let position = "SELECT commit_position, prepare_position FROM completeness";
        let position: Option<(i64, i64)> = sqlx::query_as(position)
            .fetch_optional(self.generation().pool())
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
        let forget = sqlx::query("DELETE FROM completeness");
        forget.execute(self.generation().pool()).await.map(drop)
    }

    /// Moves that position forward over so many events, and never back.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn advance(&self, position: Position, events: u64) -> Result<(), sqlx::Error> {
        sqlx::query(
            "INSERT INTO completeness (single, commit_position, prepare_position, events) VALUES (1, $1, $2, $3)
             ON CONFLICT (single) DO UPDATE SET commit_position = excluded.commit_position,
                                              prepare_position = excluded.prepare_position,
                                              events = completeness.events + excluded.events
             WHERE completeness.commit_position < excluded.commit_position",
        )
        .bind(number(position.commit))
        .bind(number(position.prepare))
        .bind(number(events))
        .execute(self.generation().writing().pool())
        .await
        .map(drop)
    }
}
