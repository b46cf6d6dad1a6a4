//! A read model for its writers: the ledger, holds, attempts and completeness, beside what the projection keeps.
//!
//! Invariants:
//! - The ledger and what the projection keeps are written in one transaction, so every event is applied once.
//! - They and the position of completeness are in one database, so a crash of the machine takes all of them back to the same
//!   moment. The log of the store restores everything after it.
//! - When [`View::apply`] returns, erased data is in neither a SQLite file nor its write-ahead log. In the files of a PostgreSQL
//!   server it stays until the next rewrite (`forgetting`).
//! - One transaction writes at a time, in PostgreSQL too.
//! - Attempts are counted and flushed before they are made.
//! - The position of completeness does not go back while the machine runs.

mod complete_position;
mod counted_attempts;
mod entries;
mod forgetting;
mod history;
mod hold_table;
mod writer;

pub(super) use history::{History, Progress};
pub(super) use hold_table::held_users;
pub use hold_table::{HeldUser, HeldUserList};

use super::ledger::{Entry, Verdict, judge};
use crate::database::Dialect;
use crate::domain::UserId;
use crate::read_model::{Generation, Projection, ProvenEvent, UserChanges};
use sqlx::{Any, Transaction};
use std::collections::{BTreeMap, BTreeSet};
use std::mem;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::DropGuard;
use uuid::Uuid;
use writer::Writer;

/// Waits until no other transaction writes this generation. The lock ends with the transaction.
const ALONE: &str = "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended(current_schema(), 0))";

/// Writes one generation of a read model.
#[derive(Debug, Clone)]
pub struct View {
    target: Target,
    writer: Writer,
    /// Ends the task that removes erased data from a PostgreSQL server.
    _forgetting: Option<Arc<DropGuard>>,
}

/// A generation, and the projection that says what it keeps.
#[derive(Debug, Clone)]
struct Target {
    generation: Generation,
    projection: Arc<dyn Projection>,
}

/// The result of applying an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is applied now.
    Applied,
    /// It was applied before.
    Duplicate,
    /// Its user is held, so it waits in the log.
    Held,
    /// Events before it are missing.
    Gap,
    /// Another event was applied at its revision.
    Conflict,
}

/// How far a read model is with a user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Standing {
    /// The last applied event. `None` if there is none.
    pub entry: Option<Entry>,
    /// Whether the user is held.
    pub held: bool,
}

/// What is known of a user, and what is going to be written.
#[derive(Debug, Default)]
struct Known<'a> {
    before: Option<Entry>,
    now: Option<Entry>,
    held: bool,
    /// Whether the applied events replace what is kept of the user.
    anew: bool,
    applied: Vec<&'a ProvenEvent>,
    /// Whether the hold is lifted.
    lifted: bool,
    /// The revision and the reason of a new hold.
    hold: Option<(u64, String)>,
}

impl View {
    /// Writes this generation. Must be called within a runtime.
    #[must_use]
    pub fn new(generation: Generation, projection: Arc<dyn Projection>) -> Self {
        Self::with_pause(generation, projection, forgetting::PAUSE)
    }

    /// Like [`new`](Self::new). Removes erased data from the files of a PostgreSQL server with at least this pause.
    #[must_use]
    pub fn with_pause(
        generation: Generation,
        projection: Arc<dyn Projection>,
        pause: Duration,
    ) -> Self {
        let target = Target {
            generation,
            projection,
        };
        let writer = Writer::start(target.clone());
        let on_server = target.dialect() == Dialect::Postgres;
        Self {
            _forgetting: on_server.then(|| forgetting::start(target.clone(), pause)),
            target,
            writer,
        }
    }

    /// The generation that it writes.
    #[must_use]
    pub fn generation(&self) -> &Generation {
        &self.target.generation
    }

    pub(super) fn projection(&self) -> &dyn Projection {
        self.target.projection.as_ref()
    }

    /// Applies events in one transaction, in this order, and returns what became of each. Batches of other callers may
    /// share the transaction.
    ///
    /// # Errors
    /// When the database fails. Then nothing was applied, or all of it was and only the log is not emptied yet, for
    /// example because readers kept it busy. The same events may be applied again, and erasures must be.
    pub async fn apply(&self, events: Vec<ProvenEvent>) -> Result<Vec<Outcome>, sqlx::Error> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        // A repeated deletion counts too: a crash may have followed its first transaction.
        let erases = events.iter().any(ProvenEvent::is_erasure);
        let outcomes = self.writer.apply(events).await?;
        if erases {
            forgetting::at_once(&self.target).await?;
        }
        Ok(outcomes)
    }

    /// How far the read model is with a user.
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
        let generation = self.generation();
        let mut connection = generation.pool().acquire().await?;
        let dialect = generation.database().dialect();
        let known = entries::load(dialect, &mut connection, users).await?;
        let known = known.into_iter();
        Ok(known
            .map(|(user, known)| (user, known.standing()))
            .collect())
    }
}

impl Standing {
    /// The revision of the last applied event.
    #[must_use]
    pub fn revision(&self) -> Option<u64> {
        self.entry.map(|entry| entry.revision)
    }

    /// Whether this event of the log was applied.
    pub(super) fn has(&self, revision: u64, event: Uuid) -> bool {
        self.entry.is_some_and(|entry| {
            entry.revision > revision || (entry.revision, entry.event) == (revision, event)
        })
    }

    /// Whether the user is deleted.
    pub(super) fn is_final(&self) -> bool {
        self.entry.is_some_and(|entry| entry.is_final())
    }
}

impl<'a> Known<'a> {
    fn is_changed(&self) -> bool {
        self.now != self.before
    }

    /// Whether the user is deleted, and was not before.
    fn is_erased(&self) -> bool {
        self.is_changed() && self.now.as_ref().is_some_and(Entry::is_final)
    }

    fn take(&mut self, event: &'a ProvenEvent) -> Outcome {
        match judge(self.now.as_ref(), event) {
            Verdict::Duplicate => Outcome::Duplicate,
            Verdict::Gap | Verdict::Conflict | Verdict::Apply(_)
                if self.held && !event.is_erasure() =>
            {
                Outcome::Held
            }
            Verdict::Gap => Outcome::Gap,
            Verdict::Conflict => Outcome::Conflict,
            Verdict::Apply(entry) => {
                self.apply(entry, event);
                Outcome::Applied
            }
        }
    }

    fn apply(&mut self, entry: Entry, event: &'a ProvenEvent) {
        self.now = Some(entry);
        self.applied.push(event);
    }

    /// Begins before the user's first event.
    fn begin_anew(&mut self) {
        self.now = None;
        self.anew = true;
        self.applied.clear();
    }

    /// Leaves everything as it was.
    fn undo(&mut self) {
        self.now = self.before;
        self.anew = false;
        self.applied.clear();
    }

    fn standing(&self) -> Standing {
        Standing {
            entry: self.before,
            held: self.held,
        }
    }
}

impl Target {
    fn dialect(&self) -> Dialect {
        self.generation.database().dialect()
    }

    async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        let mut transaction = self.generation.writing().begin().await?;
        if self.dialect() == Dialect::Postgres {
            sqlx::query(ALONE).execute(&mut *transaction).await?;
        }
        Ok(transaction)
    }

    /// Writes what has changed in the ledger, with at most three statements for all entries and one for each new or lifted
    /// hold, and lets the projection write what it keeps.
    async fn commit(
        &self,
        mut transaction: Transaction<'static, Any>,
        mut known: BTreeMap<UserId, Known<'_>>,
    ) -> Result<(), sqlx::Error> {
        for (user, known) in &known {
            entries::write_hold(&mut transaction, *user, known).await?;
        }
        entries::write_changed(self.dialect(), &mut transaction, &known).await?;
        if self.dialect() == Dialect::Postgres && known.values().any(Known::is_erased) {
            forgetting::count_erasure(&mut transaction).await?;
        }
        let changes: Vec<_> = known
            .iter_mut()
            .filter(|(_, known)| known.anew || !known.applied.is_empty())
            .map(|(user, known)| UserChanges {
                user: *user,
                anew: known.anew,
                events: mem::take(&mut known.applied),
            })
            .collect();
        #[cfg(feature = "failpoints")]
        for event in changes.iter().flat_map(|changes| &changes.events) {
            let read_model = self.generation.read_model();
            fail::fail_point!(&format!("applied-{read_model}-{}", event.id), |_| {
                std::process::abort()
            });
        }
        let applied = self
            .projection
            .apply(&self.generation, &mut transaction, &changes);
        applied.await?;
        fail::fail_point!("statements-not-committed", |_| std::process::abort());
        transaction.commit().await
    }
}
