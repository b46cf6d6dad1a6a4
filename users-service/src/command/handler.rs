//! Execution of commands: load, decide, append, and retry after a conflict.
//!
//! Invariants:
//! - A command is answered with success only when its events are durable.
//! - Every append expects an exact revision.
//! - The ids of a command's events are derived from the command's id, so a repeated append is idempotent. All other events
//!   have random ids.
//! - The number of commands, and of reads, that are executed at once is bounded, and so is the time of each.
//! - A command depends only on the id source, the key store and the event store.

use super::envelope::{Command, Committed, Envelope};
use super::error::CommandError;
use super::execution::{Execution, Ran};
use super::once::Once;
use super::plan::Plan;
use super::stores::Stores;
use super::user_history::{Activity, SnapshotNeed};
use crate::admission::Admission;
use crate::clock::Clock;
use crate::domain::{Profile, UserError, UserId, UserState};
use crate::ids::IdSource;
use crate::privacy::pseudonym::UsernameSecret;
use crate::privacy::subject_keys::SubjectKeys;
use crate::stored_event::Caller;
use access_tokens::Access;
use event_streams::EventStreams;
use std::time::Duration;

/// The most ids that one creation tries. An id cannot be used after a rival abandoned it.
const FRESH_IDS: u32 = 5;
/// How long a command that was sent with an idempotency key is remembered.
const KEPT_FOR: Duration = Duration::from_hours(30 * 24);

/// How many commands, and how many reads, are executed at once, unless it is configured. ADR 19 derives the number.
pub const IN_FLIGHT: usize = 256;

/// Executes commands.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    pub(super) stores: Stores,
    pub(super) secret: UsernameSecret,
    ids: IdSource,
    pub(super) kept_for: Duration,
    pub(super) clock: Clock,
    commands: Admission,
    reads: Admission,
}

impl CommandHandler {
    /// A handler that uses these stores and ids.
    #[must_use]
    pub fn new(
        events: EventStreams,
        keys: SubjectKeys,
        secret: UsernameSecret,
        ids: IdSource,
    ) -> Self {
        Self {
            stores: Stores::new(events, keys),
            secret,
            ids,
            kept_for: KEPT_FOR,
            clock: Clock::of_machine(),
            commands: commands(IN_FLIGHT),
            reads: reads(IN_FLIGHT),
        }
    }

    /// The source of ids for new users.
    #[must_use]
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// The pseudonym of the caller with this access token. Every caller without one is the same.
    #[must_use]
    pub fn caller(&self, access: Option<&Access>) -> Caller {
        access.map_or(Caller::ANONYMOUS, |access| {
            Caller::of_pseudonym(self.secret.caller(access.subject()))
        })
    }

    /// Remembers commands that were sent with an idempotency key for this time. The default is 30 days.
    #[must_use]
    pub fn remembering_for(self, kept_for: Duration) -> Self {
        Self { kept_for, ..self }
    }

    /// Reads the time from this clock. The default is the machine's.
    #[must_use]
    pub fn with_clock(self, clock: Clock) -> Self {
        Self { clock, ..self }
    }

    /// Returns when no snapshot is being written beside an answer.
    pub async fn snapshots_settled(&self) {
        self.stores.snapshots.settled().await;
    }

    /// Executes at most so many commands, and as many reads, at once. The default is [`IN_FLIGHT`].
    #[must_use]
    pub fn in_flight(self, limit: usize) -> Self {
        Self {
            commands: commands(limit),
            reads: reads(limit),
            ..self
        }
    }

    /// Fails with the reason while commands or reads are refused because there are too many.
    ///
    /// # Errors
    /// The reason.
    pub fn check_capacity(&self) -> Result<(), String> {
        self.commands.check().and_then(|()| self.reads.check())
    }

    /// Reads histories of so many events from snapshots. The default is
    /// [`SNAPSHOT_EVERY`](super::user_histories::SNAPSHOT_EVERY).
    #[must_use]
    pub fn snapshot_every(mut self, every: usize) -> Self {
        self.stores.histories = self.stores.histories.snapshot_every(every);
        self
    }

    /// Executes a command. When a deletion returns, its tombstone and the destruction of the key are durable too. A command with
    /// an idempotency key is executed once, however often it is sent.
    ///
    /// # Errors
    /// A refusal: [`UserError::UsernameTaken`], [`UserError::Exists`] (the chosen id was used before), [`UserError::Unknown`],
    /// or [`UserError::Erased`], before which an interrupted deletion is completed. Or a failure: see [`CommandError`].
    pub async fn execute(&self, envelope: &Envelope) -> Result<Committed, CommandError> {
        self.commands.run(self.execute_admitted(envelope)).await?
    }

    async fn execute_admitted(&self, envelope: &Envelope) -> Result<Committed, CommandError> {
        if let Some(memory) = envelope.identity(|parts| self.secret.command_stream(parts)) {
            let parts = (&self.stores, &self.secret, &self.ids);
            let once = Once::new(parts, (envelope, memory), self.kept_for);
            return Box::pin(once.execute()).await;
        }
        match &envelope.command {
            Command::Create(_) => self.create(envelope).await,
            Command::Patch(user, _) | Command::Delete(user) => {
                let committed = self.run(envelope, *user).await?;
                committed.ok_or(CommandError::Conflict)
            }
        }
    }

    async fn create(&self, envelope: &Envelope) -> Result<Committed, CommandError> {
        if let Some(chosen) = envelope.chosen_id {
            let committed = self.run(envelope, chosen).await?;
            return committed.ok_or_else(|| UserError::Exists.into());
        }
        for _ in 0..FRESH_IDS {
            let user = self.ids.next().await?;
            if let Some(committed) = self.run(envelope, user).await? {
                return Ok(committed);
            }
        }
        Err(CommandError::Conflict)
    }

    /// Runs the command under this id. `None` if a new user cannot have the id.
    async fn run(
        &self,
        envelope: &Envelope,
        user: UserId,
    ) -> Result<Option<Committed>, CommandError> {
        let plan = Plan::of(&envelope.command, &self.secret);
        let mut execution = Execution::new(&self.stores, user, envelope);
        Ok(match execution.run(plan).await? {
            Ran::Committed(revision) | Ran::Unchanged(revision) => Some(Committed {
                user,
                revision,
                replayed: false,
            }),
            Ran::IdUsed => None,
        })
    }

    /// The current names of the user, and the revision of the last event that changed them.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], [`CommandError::Overloaded`], or [`CommandError::Unavailable`].
    pub async fn get(&self, user: UserId) -> Result<(Profile, u64), CommandError> {
        self.reads.run(self.read(user)).await?
    }

    async fn read(&self, user: UserId) -> Result<(Profile, u64), CommandError> {
        let history = self.stores.histories.read(user).await?;
        let state = match history.activity(&self.stores.keys).await? {
            Activity::Active(key) => {
                if history.need() == SnapshotNeed::Now {
                    self.stores.snapshots.write_later(user, &history, &key);
                }
                history.open(&key)?
            }
            Activity::Inactive(state) => state,
        };
        match state {
            UserState::Active(user) => Ok((user.profile, history.changed().unwrap_or_default())),
            UserState::Absent | UserState::Abandoned => Err(UserError::Unknown.into()),
            UserState::Erased => Err(UserError::Erased.into()),
        }
    }
}

fn commands(limit: usize) -> Admission {
    Admission::new("commands", limit)
}

fn reads(limit: usize) -> Admission {
    Admission::new("reads of users", limit)
}
