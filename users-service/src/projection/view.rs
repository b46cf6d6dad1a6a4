//! The read model `directory` for its writers: rows, holds, attempts and completeness, each written durably.
//!
//! Invariants: what was erased is in neither the file nor its log when [`View::apply`] returns; the position of
//! completeness never goes back.

mod ledger;

use super::directory::{DirectoryEvent, ERASED, Effect, Row, Verdict, judge};
use crate::domain::{NameField, UserId};
use crate::query::read_model::{ReadModel, decode, entry, user};
use sqlx::{Row as _, SqliteConnection};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;

/// How long readers may keep the log from being emptied.
const FORGET_WITHIN: Duration = Duration::from_secs(2);

/// Writes the read model.
#[derive(Debug, Clone)]
pub struct View {
    read_model: ReadModel,
}

/// What became of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row has it now.
    Applied,
    /// The row had it before.
    Duplicate,
    /// Its user is held: it waits in the log.
    Held,
    /// Events before it are missing.
    Gap,
}

/// What is known of a user's progress.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Of the last event applied; none if there is no row.
    pub revision: Option<u64>,
    /// Whether the user is held.
    pub held: bool,
}

#[derive(Debug, Default)]
struct Known {
    before: Option<Row>,
    now: Option<Row>,
    held: bool,
}

impl View {
    /// Writes this read model.
    #[must_use]
    pub fn new(read_model: ReadModel) -> Self {
        Self { read_model }
    }

    /// Applies events in one transaction, in this order, and answers what became of each. With `lift`, holds of their
    /// users are lifted in the same transaction.
    ///
    /// # Errors
    /// When the database fails; nothing was applied then, or all of it was and only the log is not emptied yet, for
    /// example because readers kept it busy. The same events may be applied again, and erasures must be.
    pub async fn apply(
        &self,
        events: &[DirectoryEvent],
        lift: bool,
    ) -> Result<Vec<Outcome>, sqlx::Error> {
        let users: BTreeSet<UserId> = events.iter().map(|event| event.user).collect();
        let mut transaction = self.read_model.pool().begin_with("BEGIN IMMEDIATE").await?;
        let mut known = load(&mut transaction, &users).await?;
        let mut outcomes = Vec::with_capacity(events.len());
        for event in events {
            outcomes.push(known.entry(event.user).or_default().take(event, lift));
        }
        let mut erased = false;
        for (user, known) in &known {
            erased |= write(&mut transaction, *user, known, lift).await?;
        }
        transaction.commit().await?;
        // A repeated deletion may be one whose first transaction was followed by a crash.
        if erased || events.iter().any(|event| event.effect == Effect::Erase) {
            self.forget().await?;
        }
        Ok(outcomes)
    }

    /// Empties the write-ahead log, where older versions of pages lie. It never waits inside the database, because it
    /// would keep all writers waiting too.
    async fn forget(&self) -> Result<(), sqlx::Error> {
        let emptying = async {
            loop {
                let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
                    .fetch_one(self.read_model.impatient())
                    .await?;
                if emptied.try_get::<i64, _>(0)? == 0 {
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(rand::random_range(5..=25))).await;
            }
        };
        let busy = |_| Err(io::Error::new(io::ErrorKind::TimedOut, "the log is in use").into());
        tokio::time::timeout(FORGET_WITHIN, emptying)
            .await
            .unwrap_or_else(busy)
    }

    /// How far a user is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn standing(&self, user: UserId) -> Result<Standing, sqlx::Error> {
        let mut connection = self.read_model.pool().acquire().await?;
        let known = load(&mut connection, &BTreeSet::from([user])).await?;
        let known = known.get(&user);
        Ok(Standing {
            revision: known.and_then(|known| known.before.as_ref().map(|row| row.revision)),
            held: known.is_some_and(|known| known.held),
        })
    }
}

impl Known {
    fn take(&mut self, event: &DirectoryEvent, lift: bool) -> Outcome {
        match judge(self.now.as_ref(), event) {
            Verdict::Duplicate => Outcome::Duplicate,
            Verdict::Gap | Verdict::Apply(_)
                if self.held && !lift && event.effect != Effect::Erase =>
            {
                Outcome::Held
            }
            Verdict::Gap => Outcome::Gap,
            Verdict::Apply(row) => {
                self.now = Some(row);
                Outcome::Applied
            }
        }
    }

    fn is_erased(&self) -> bool {
        self.now.as_ref().is_some_and(|row| row.revision == ERASED)
    }
}

async fn load(
    connection: &mut SqliteConnection,
    users: &BTreeSet<UserId>,
) -> Result<BTreeMap<UserId, Known>, sqlx::Error> {
    let ids: Vec<u64> = users.iter().map(|user| user.number()).collect();
    let rows = sqlx::query(
        "SELECT value AS id, users.revision, users.key, username, given_name, family_name,
                held.id IS NOT NULL AS held
         FROM json_each(?) LEFT JOIN users ON users.id = value LEFT JOIN held ON held.id = value",
    )
    .bind(serde_json::Value::from(ids).to_string())
    .fetch_all(connection)
    .await?;
    let mut known = BTreeMap::new();
    for row in &rows {
        let revision: Option<i64> = row.try_get("revision")?;
        let before = match revision {
            None => None,
            Some(revision) => Some(Row {
                revision: u64::try_from(revision).map_err(decode)?,
                entry: entry(row)?,
            }),
        };
        let held = row.try_get("held")?;
        let now = before.clone();
        known.insert(user(row)?, Known { before, now, held });
    }
    Ok(known)
}

/// Writes what has changed of one user; answers whether that was an erasure.
async fn write(
    connection: &mut SqliteConnection,
    user: UserId,
    known: &Known,
    lift: bool,
) -> Result<bool, sqlx::Error> {
    let erased = known.is_erased();
    if known.held && (lift || erased) {
        let lift = sqlx::query("DELETE FROM held WHERE id = ?").bind(number(user.number()));
        lift.execute(&mut *connection).await?;
    }
    let Some(row) = known.now.as_ref().filter(|_| known.now != known.before) else {
        return Ok(false);
    };
    let attempts = "DELETE FROM attempts WHERE id = ? AND revision <= ?";
    let attempts = sqlx::query(attempts)
        .bind(number(user.number()))
        .bind(number(row.revision));
    attempts.execute(&mut *connection).await?;
    write_row(connection, user, known.before.as_ref(), row).await?;
    Ok(erased)
}

/// Only over the row that was read, so that two appliers are harmless whatever the database's isolation.
async fn write_row(
    connection: &mut SqliteConnection,
    user: UserId,
    before: Option<&Row>,
    row: &Row,
) -> Result<(), sqlx::Error> {
    let statement = match before {
        None => {
            "INSERT INTO users (revision, key, username, given_name, family_name, id)
             VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING"
        }
        Some(_) => {
            "UPDATE users SET revision = ?, key = ?, username = ?, given_name = ?, family_name = ?
             WHERE id = ? AND revision = ?"
        }
    };
    let entry = row.entry.as_ref();
    let mut query = sqlx::query(statement)
        .bind(number(row.revision))
        .bind(entry.map(|entry| entry.key.to_string()));
    for field in NameField::ALL {
        let sealed = entry.and_then(|entry| entry.names.get(&field));
        let sealed = sealed
            .map(serde_json::to_value)
            .transpose()
            .map_err(decode)?;
        query = query.bind(sealed.and_then(|sealed| sealed.as_str().map(ToOwned::to_owned)));
    }
    query = query.bind(number(user.number()));
    if let Some(before) = before {
        query = query.bind(number(before.revision));
    }
    match query.execute(connection).await?.rows_affected() {
        1 => Ok(()),
        _ => Err(sqlx::Error::RowNotFound),
    }
}

/// Ids and revisions that do not fit were refused where they came in.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
