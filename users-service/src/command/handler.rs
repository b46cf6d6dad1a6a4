//! Execution of commands: load, decide, append, and retry after a conflict.
//!
//! Invariants:
//! - A command is answered with success only when its events are durable.
//! - Every append expects an exact revision.
//! - The ids of a command's events are derived from the command's id, so a repeated append is idempotent. All other events
//!   have random ids.
//! - A command depends only on the id source, the key store and the event store.

use super::error::CommandError;
use super::execution::{Action, Execution, Stores};
use super::reservation::{Goal, ReservationOutcome};
use super::user_history::{Activity, UserHistory};
use crate::domain::{ActiveUser, Changes, Profile, UserError, UserId, UserState};
use crate::erasure::Erasure;
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
        let erasure = Erasure::new(events.clone(), keys.clone());
        let stores = Stores {
            events,
            keys,
            erasure,
        };
        Self {
            stores,
            secret,
            ids,
        }
    }

    /// The source of ids for new users.
    #[must_use]
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// Creates a user, and returns the user's id.
    ///
    /// # Errors
    /// [`UserError::UsernameTaken`], or a failure: see [`CommandError`].
    pub async fn create(&self, profile: Profile) -> Result<UserId, CommandError> {
        for _ in 0..FRESH_IDS {
            let user = self.ids.next().await?;
            let former = self.secret.former_reservations(&profile.username);
            let goal = Goal::Create {
                name: self.secret.reservation(&profile.username),
                read_first: !former.is_empty(),
            };
            let create = Action::Create(profile.clone());
            let execution = Execution::new(&self.stores, user, create);
            match execution.respecting(former).run(goal).await? {
                ReservationOutcome::Committed => return Ok(user),
                ReservationOutcome::Taken => return Err(UserError::UsernameTaken.into()),
                ReservationOutcome::Contended => return Err(CommandError::Conflict),
                ReservationOutcome::IdUsed => {}
            }
        }
        Err(CommandError::Conflict)
    }

    /// Changes some fields of a user.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], [`UserError::UsernameTaken`], or a failure: see [`CommandError`].
    pub async fn patch(&self, user: UserId, changes: Changes) -> Result<(), CommandError> {
        let (goal, former) = match &changes.username {
            Some(username) => {
                let name = self.secret.reservation(username);
                let former_name = self.secret.former_reservation(username);
                let former = self.secret.former_reservations(username);
                (Goal::Hold { name, former_name }, former)
            }
            None => (Goal::Keep, Vec::new()),
        };
        let execution = Execution::new(&self.stores, user, Action::Patch(changes));
        finished(execution.respecting(former).run(goal).await?)
    }

    /// Deletes a user. When this returns, the deletion, its tombstone and the destruction of the key are durable.
    ///
    /// # Errors
    /// [`UserError::Unknown`]; [`UserError::Erased`], after an interrupted deletion was completed; or a failure: see
    /// [`CommandError`].
    pub async fn delete(&self, user: UserId) -> Result<(), CommandError> {
        let execution = Execution::new(&self.stores, user, Action::Delete);
        finished(execution.run(Goal::Delete).await?)
    }

    /// The current state of the user.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], or [`CommandError::Unavailable`].
    pub async fn get(&self, user: UserId) -> Result<ActiveUser, CommandError> {
        let history = UserHistory::read(&self.stores.events, user).await?;
        let state = match history.activity(&self.stores.keys).await? {
            Activity::Active(key) => history.open(&key)?,
            Activity::Inactive(state) => state,
        };
        match state {
            UserState::Active(user) => Ok(user),
            UserState::Absent | UserState::Abandoned => Err(UserError::Unknown.into()),
            UserState::Erased => Err(UserError::Erased.into()),
        }
    }
}

fn finished(outcome: ReservationOutcome) -> Result<(), CommandError> {
    match outcome {
        ReservationOutcome::Committed => Ok(()),
        ReservationOutcome::Taken => Err(UserError::UsernameTaken.into()),
        ReservationOutcome::IdUsed | ReservationOutcome::Contended => Err(CommandError::Conflict),
    }
}
