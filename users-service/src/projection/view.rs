//! The read model `directory` for its writers: rows, holds, attempts and completeness.
//!
//! Invariants:
//! - Rows and the position of completeness are in one file with one write-ahead log, so a crash of the machine takes both
//!   back to the same moment. The log of the store restores everything after it.
//! - Erasures are flushed before [`View::apply`] returns. Erased data is then in neither the file nor its write-ahead log.
//!   Attempts are counted and flushed before they are made.
//! - The position of completeness does not go back while the machine runs.

mod history;
mod hold_table;
mod ledger;
mod rows;
mod writer;

pub(super) use history::{History, Progress};
pub use hold_table::{HeldUser, HeldUserList};

use super::directory::{DirectoryEvent, Effect, Verdict, judge};
use crate::domain::UserId;
use crate::read_model::{ERASED, ReadModel, Row};
use sqlx::{Row as _, Sqlite, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::Duration;
use uuid::Uuid;
use writer::Writer;

/// How long readers may delay the emptying of the write-ahead log.
const FORGET_WITHIN: Duration = Duration::from_secs(2);

/// Writes the read model.
#[derive(Debug, Clone)]
pub struct View {
    read_model: ReadModel,
    writer: Writer,
}

/// The result of applying an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The row contains it now.
    Applied,
    /// The row contained it before.
    Duplicate,
    /// Its user is held, so it waits in the log.
    Held,
    /// Events before it are missing.
    Gap,
    /// The row differs from the log, or the log has not confirmed the row.
    Conflict,
}

/// How far a user's row is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The revision of the last applied event. `None` if there is no row.
    pub revision: Option<u64>,
    /// The id of that event. `None` if there is no row, or the log has not confirmed the row.
    pub event: Option<Uuid>,
    /// Whether the user is held.
    pub held: bool,
}

#[derive(Debug, Default)]
struct Known {
    before: Option<Row>,
    now: Option<Row>,
    held: bool,
    /// Whether the hold is lifted.
    lifted: bool,
    /// The revision and the reason of a new hold.
    hold: Option<(u64, String)>,
}

impl View {
    /// Writes this read model. Must be called within a runtime.
    #[must_use]
    pub fn new(read_model: ReadModel) -> Self {
        let writer = Writer::start(read_model.clone());
        Self { read_model, writer }
    }

    /// Applies events in one transaction, in this order, and returns what became of each. Batches of other callers may
    /// share the transaction.
    ///
    /// # Errors
    /// When the database fails. Then nothing was applied, or all of it was and only the log is not emptied yet, for
    /// example because readers kept it busy. The same events may be applied again, and erasures must be.
    pub async fn apply(&self, events: Vec<DirectoryEvent>) -> Result<Vec<Outcome>, sqlx::Error> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        // A repeated deletion counts too: a crash may have followed its first transaction.
        let erases = events.iter().any(|event| event.effect == Effect::Erase);
        let outcomes = self.writer.apply(events).await?;
        if erases {
            self.forget().await?;
        }
        Ok(outcomes)
    }

    /// Flushes the file and empties the write-ahead log, which contains older versions of pages. It never waits inside the
    /// database, because all writers would wait too.
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

    /// How far a user's row is.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn standing(&self, user: UserId) -> Result<Standing, sqlx::Error> {
        let standings = self.standings(&BTreeSet::from([user])).await?;
        Ok(standings.get(&user).copied().unwrap_or_default())
    }

    pub(super) async fn standings(
        &self,
        users: &BTreeSet<UserId>,
    ) -> Result<BTreeMap<UserId, Standing>, sqlx::Error> {
        let mut connection = self.read_model.pool().acquire().await?;
        let known = rows::load(&mut connection, users).await?.into_iter();
        Ok(known
            .map(|(user, known)| (user, known.standing()))
            .collect())
    }
}

impl Standing {
    /// Revision and id of the row's last event.
    fn place(&self) -> (Option<u64>, Option<Uuid>) {
        (self.revision, self.event)
    }

    /// Whether the row contains this event of the log. False for a row that the log has not confirmed.
    pub(super) fn has(&self, revision: u64, event: Uuid) -> bool {
        let is_later = self.event.is_some() && self.revision > Some(revision);
        is_later || self.place() == (Some(revision), Some(event))
    }

    /// Whether the log still has to confirm the row, because an earlier version wrote it.
    pub(super) fn is_unconfirmed(&self) -> bool {
        self.revision.is_some() && self.event.is_none()
    }

    /// Whether the user is deleted, and the log has confirmed it.
    pub(super) fn is_final(&self) -> bool {
        self.revision == Some(ERASED) && self.event.is_some()
    }
}

impl Known {
    fn is_changed(&self) -> bool {
        self.now != self.before
    }

    /// Whether the user is deleted, and was not before.
    fn is_erased(&self) -> bool {
        self.is_changed() && self.now.as_ref().is_some_and(Row::is_final)
    }

    fn take(&mut self, event: &DirectoryEvent) -> Outcome {
        match judge(self.now.as_ref(), event) {
            Verdict::Duplicate => Outcome::Duplicate,
            Verdict::Gap | Verdict::Conflict | Verdict::Apply(_)
                if self.held && event.effect != Effect::Erase =>
            {
                Outcome::Held
            }
            Verdict::Gap => Outcome::Gap,
            Verdict::Conflict => Outcome::Conflict,
            Verdict::Apply(row) => {
                self.now = Some(row);
                Outcome::Applied
            }
        }
    }

    fn standing(&self) -> Standing {
        Standing {
            revision: self.before.as_ref().map(|row| row.revision),
            event: self.before.as_ref().and_then(|row| row.event),
            held: self.held,
        }
    }
}

async fn begin(read_model: &ReadModel) -> Result<Transaction<'static, Sqlite>, sqlx::Error> {
    read_model.pool().begin_with("BEGIN IMMEDIATE").await
}

/// Writes what has changed: all rows with at most three statements, and each new or lifted hold with its own.
async fn commit(
    mut transaction: Transaction<'static, Sqlite>,
    known: &BTreeMap<UserId, Known>,
) -> Result<(), sqlx::Error> {
    for (user, known) in known {
        rows::write_hold(&mut transaction, *user, known).await?;
    }
    rows::write_changed(&mut transaction, known).await?;
    fail::fail_point!("statements-not-committed", |_| std::process::abort());
    transaction.commit().await
}

/// Ids and revisions above `i64::MAX` are refused before they come here.
fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
