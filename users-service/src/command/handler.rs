//! Load, decide, append; and again when somebody was quicker.
//!
//! Invariants: what is answered with success is durable; every append carries an exact expectation; the events that a
//! command makes have ids derived from the command's, so that a repeated write is the same write, and all others have
//! random ones; nothing but the id source, the key store and the event store is in a command's path.

use super::error::CommandError;
use super::execution::{Action, Execution, Stores};
use super::reservation::{Goal, ReservationOutcome};
use super::user_history::{Life, UserHistory};
use crate::domain::{ActiveUser, Changes, Profile, UserError, UserId, UserState};
use crate::erasure::Erasure;
use crate::ids::IdSource;
use crate::privacy::pseudonym::UsernameSecret;
use crate::privacy::subject_keys::SubjectKeys;
use event_streams::EventStreams;

/// How many ids of abandoned registrations one creation may go through.
const FRESH_IDS: u32 = 5;

/// Executes commands.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    stores: Stores,
    secret: UsernameSecret,
    ids: IdSource,
}

impl CommandHandler {
    /// Puts a handler together.
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

    /// Where the ids of new users come from.
    #[must_use]
    pub fn ids(&self) -> &IdSource {
        &self.ids
    }

    /// Makes a user, and returns the id under which the user lives from now on.
    ///
    /// # Errors
    /// [`UserError::UsernameTaken`], or see [`CommandError`].
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
            match execution.instead_of(former).run(goal).await? {
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
    /// [`UserError::Unknown`], [`UserError::Erased`], [`UserError::UsernameTaken`], or see [`CommandError`].
    pub async fn patch(&self, user: UserId, changes: Changes) -> Result<(), CommandError> {
        let (goal, former) = match &changes.username {
            Some(username) => {
                let name = self.secret.reservation(username);
                let formerly = self.secret.former_reservation(username);
                let former = self.secret.former_reservations(username);
                (Goal::Hold { name, formerly }, former)
            }
            None => (Goal::Keep, Vec::new()),
        };
        let execution = Execution::new(&self.stores, user, Action::Patch(changes));
        finished(execution.instead_of(former).run(goal).await?)
    }

    /// Forgets a user: when this returns, the deletion, its tombstone and the destruction of the key are durable.
    ///
    /// # Errors
    /// [`UserError::Unknown`]; [`UserError::Erased`], after a deletion that was cut short was completed; or see [`CommandError`].
    pub async fn delete(&self, user: UserId) -> Result<(), CommandError> {
        let execution = Execution::new(&self.stores, user, Action::Delete);
        finished(execution.run(Goal::Delete).await?)
    }

    /// The user as of now.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], or [`CommandError::Unavailable`].
    pub async fn get(&self, user: UserId) -> Result<ActiveUser, CommandError> {
        let history = UserHistory::read(&self.stores.events, user).await?;
        let state = match history.life(&self.stores.keys).await? {
            Life::Alive(key) => history.open(&key)?,
            Life::Over(state) => state,
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
