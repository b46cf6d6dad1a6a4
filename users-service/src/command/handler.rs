//! Execution of commands: load, decide, append, and retry after a conflict.
//!
//! Invariants:
//! - A command is answered with success only when its events are durable.
//! - Every append expects an exact revision.
//! - The ids of a command's events are derived from the command's id, so a repeated append is idempotent. All other events
//!   have random ids.
//! - A command depends only on the id source, the key store and the event store.

use super::envelope::{Command, Committed, Envelope};
use super::error::CommandError;
use super::execution::Execution;
use super::reservation::{Goal, ReservationOutcome};
use super::stores::Stores;
use super::user_history::Activity;
use crate::domain::{Changes, Profile, ReservationName, UserError, UserId, UserState};
use crate::ids::IdSource;
use crate::privacy::pseudonym::UsernameSecret;
use crate::privacy::subject_keys::SubjectKeys;
use event_streams::EventStreams;

/// The most ids that one creation tries. An id cannot be used after a rival abandoned it.
const FRESH_IDS: u32 = 5;

/// Executes commands.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    stores: Stores,
    secret: UsernameSecret,
    ids: IdSource,
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
        }
    }

    /// The source of ids for new users.
    #[must_use]
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// Executes a command. When a deletion returns, its tombstone and the destruction of the key are durable too.
    ///
    /// # Errors
    /// A refusal: [`UserError::UsernameTaken`], [`UserError::Unknown`], or [`UserError::Erased`], before which an interrupted
    /// deletion is completed. Or a failure: see [`CommandError`].
    pub async fn execute(&self, envelope: &Envelope) -> Result<Committed, CommandError> {
        match &envelope.command {
            Command::Create(profile) => self.create(envelope, profile).await,
            Command::Patch(user, changes) => {
                let (goal, former) = self.goal_of_patch(changes);
                let execution = Execution::new(&self.stores, *user, envelope);
                finish(*user, execution.respecting(former), goal).await
            }
            Command::Delete(user) => {
                let execution = Execution::new(&self.stores, *user, envelope);
                finish(*user, execution, Goal::Delete).await
            }
        }
    }

    async fn create(
        &self,
        envelope: &Envelope,
        profile: &Profile,
    ) -> Result<Committed, CommandError> {
        for _ in 0..FRESH_IDS {
            let user = self.ids.next().await?;
            let former = self.secret.former_reservations(&profile.username);
            let goal = Goal::Create {
                name: self.secret.reservation(&profile.username),
                read_first: !former.is_empty(),
            };
            let execution = Execution::new(&self.stores, user, envelope).respecting(former);
            if let Some(committed) = finish_unless_used(user, execution, goal).await? {
                return Ok(committed);
            }
        }
        Err(CommandError::Conflict)
    }

    fn goal_of_patch(&self, changes: &Changes) -> (Goal, Vec<ReservationName>) {
        let Some(username) = &changes.username else {
            return (Goal::Keep, Vec::new());
        };
        let name = self.secret.reservation(username);
        let former_name = self.secret.former_reservation(username);
        let former = self.secret.former_reservations(username);
        (Goal::Hold { name, former_name }, former)
    }

    /// The current names of the user.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], or [`CommandError::Unavailable`].
    pub async fn get(&self, user: UserId) -> Result<Profile, CommandError> {
        let history = self.stores.histories.read(user).await?;
        let state = match history.activity(&self.stores.keys).await? {
            Activity::Active(key) => history.open(&key)?,
            Activity::Inactive(state) => state,
        };
        match state {
            UserState::Active(user) => Ok(user.profile),
            UserState::Absent | UserState::Abandoned => Err(UserError::Unknown.into()),
            UserState::Erased => Err(UserError::Erased.into()),
        }
    }
}

/// Runs the command to its end.
async fn finish(
    user: UserId,
    execution: Execution<'_>,
    goal: Goal,
) -> Result<Committed, CommandError> {
    let finished = finish_unless_used(user, execution, goal).await?;
    finished.ok_or(CommandError::Conflict)
}

/// Runs the command to its end. `None` if a new user's id is already used or abandoned.
async fn finish_unless_used(
    user: UserId,
    mut execution: Execution<'_>,
    goal: Goal,
) -> Result<Option<Committed>, CommandError> {
    match execution.run(goal).await? {
        ReservationOutcome::Committed => {
            let revision = execution.revision().ok_or(CommandError::Conflict)?;
            Ok(Some(Committed { user, revision }))
        }
        ReservationOutcome::Taken => Err(UserError::UsernameTaken.into()),
        ReservationOutcome::Contended => Err(CommandError::Conflict),
        ReservationOutcome::IdUsed => Ok(None),
    }
}
