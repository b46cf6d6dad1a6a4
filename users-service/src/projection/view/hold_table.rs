//! Held users, and the events that operators have dropped.

use super::View;
use crate::database::{Statement, over_rows, rows_of_numbers};
use crate::domain::UserId;
use crate::read_model::{Generation, number, positive, user};
use crate::stored_event::UNKNOWN_TYPE;
use sqlx::any::AnyRow;
use sqlx::{Any, Executor, Row as _};
use std::collections::BTreeSet;

const DROPPED: Statement = over_rows!(
    "SELECT id, revision FROM dropped WHERE id IN (SELECT CAST(value ->> 0 AS bigint) FROM ",
    ROWS,
    ")"
);

/// A user whose event cannot be applied. The user's later events wait in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldUser {
    /// The user.
    pub user: UserId,
    /// The revision of the event.
    pub revision: u64,
    /// Why it cannot be applied, without personal data.
    pub reason: String,
}

/// The held users with the lowest ids, at most 1,000 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldUserList {
    /// The users.
    pub users: Vec<HeldUser>,
    /// How many users are held.
    pub total: u64,
}

impl View {
    /// Holds a user at the event that cannot be applied, durably. The reason must not contain personal data.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn hold(&self, user: UserId, revision: u64, reason: &str) -> Result<(), sqlx::Error> {
        hold(self.generation().durable(), user, revision, reason).await
    }

    /// The users that are held because of an event type that the process did not know.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn held_by_unknown_types(&self) -> Result<BTreeSet<UserId>, sqlx::Error> {
        let held = "SELECT id FROM held WHERE reason LIKE $1 || '%'";
        let held = sqlx::query_scalar(held).bind(UNKNOWN_TYPE);
        let held: Vec<i64> = held.fetch_all(self.generation().pool()).await?;
        let users = held.into_iter().map(|id| UserId::new(id.unsigned_abs()));
        Ok(users.collect())
    }

    /// Drops an event again that an operator has dropped before.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn drop_again(
        &self,
        user: UserId,
        revision: u64,
    ) -> Result<(), sqlx::Error> {
        let drop = "INSERT INTO dropped (id, revision) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let drop = sqlx::query(drop)
            .bind(number(user.number()))
            .bind(number(revision));
        drop.execute(self.generation().pool())
            .await
            .map(std::mem::drop)
    }

    /// How the user is held. `None` if the user is not held.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn held_user(
        &self,
        user: UserId,
    ) -> Result<Option<HeldUser>, sqlx::Error> {
        let held = sqlx::query("SELECT id, revision, reason FROM held WHERE id = $1");
        let held = held.bind(number(user.number()));
        let held = held.fetch_optional(self.generation().pool()).await?;
        held.as_ref().map(held_user).transpose()
    }

    /// Drops the event at which the user is held, durably. The hold stays until the user's row is rebuilt. Returns false if
    /// the user is not held at this revision.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn drop_event(
        &self,
        user: UserId,
        revision: u64,
    ) -> Result<bool, sqlx::Error> {
        let drop = sqlx::query(
            "INSERT INTO dropped (id, revision) SELECT id, revision FROM held WHERE id = $1 AND revision = $2
             ON CONFLICT (id, revision) DO UPDATE SET revision = excluded.revision",
        );
        let drop = drop.bind(number(user.number())).bind(number(revision));
        let dropped = drop.execute(self.generation().durable()).await?;
        Ok(dropped.rows_affected() > 0)
    }

    /// The dropped events of these users.
    ///
    /// # Errors
    /// When the database fails.
    pub(in crate::projection) async fn dropped_events(
        &self,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeSet<(UserId, u64)>, sqlx::Error> {
        let users = users.iter().map(|user| number(user.number()));
        let database = self.generation().database();
        let dropped: Vec<(i64, i64)> = sqlx::query_as(database.text(DROPPED))
            .bind(rows_of_numbers(users))
            .fetch_all(database.pool())
            .await?;
        let dropped = dropped.into_iter();
        let event =
            |(id, revision): (i64, i64)| (UserId::new(id.unsigned_abs()), revision.unsigned_abs());
        Ok(dropped.map(event).collect())
    }
}

/// The held users with the lowest ids, at most so many of them.
///
/// # Errors
/// When the database fails.
pub(in crate::projection) async fn held_users(
    generation: &Generation,
    limit: u32,
) -> Result<HeldUserList, sqlx::Error> {
    let pool = generation.pool();
    let held = "SELECT id, revision, reason FROM held ORDER BY id LIMIT $1";
    let held = sqlx::query(held)
        .bind(i64::from(limit))
        .fetch_all(pool)
        .await?;
    let total: i64 = sqlx::query_scalar("SELECT count(*) FROM held")
        .fetch_one(pool)
        .await?;
    Ok(HeldUserList {
        users: held.iter().map(held_user).collect::<Result<_, _>>()?,
        total: total.unsigned_abs(),
    })
}

fn held_user(row: &AnyRow) -> Result<HeldUser, sqlx::Error> {
    Ok(HeldUser {
        user: user(row)?,
        revision: positive(row, "revision")?,
        reason: row.try_get("reason")?,
    })
}

pub(super) async fn hold(
    executor: impl Executor<'_, Database = Any>,
    user: UserId,
    revision: u64,
    reason: &str,
) -> Result<(), sqlx::Error> {
    tracing::error!(%user, revision, reason, "a user is held");
    let hold = "INSERT INTO held (id, revision, reason) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING";
    let hold = sqlx::query(hold)
        .bind(number(user.number()))
        .bind(number(revision));
    hold.bind(reason).execute(executor).await.map(drop)
}
