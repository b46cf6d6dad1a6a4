//! Load, decide, append; and again when somebody was quicker.
//!
//! Invariants: what is answered with success is durable; every append carries an exact expectation; the events that a
//! command makes have ids derived from the command's, so that a repeated write is the same write, and all others have
//! random ones; nothing but the id source, the key store and the event store is in a command's path.

use super::history::{History, HistoryError};
use super::reservation::{Goal, Holder, Outcome, Reservation, Seen, Standing, Step};
use crate::domain::{
    ActiveUser, Changes, Claim, Profile, ReservationName, User, UserCommand, UserError, UserEvent,
    UserId, UserState, Username,
};
use crate::ids::{IdSource, NoIds};
use crate::privacy::cipher::SubjectKey;
use crate::privacy::erasure::{Erasure, ErasureError};
use crate::privacy::pseudonym::UsernameSecret;
use crate::privacy::subject_keys::{KeysError, SubjectKeys};
use crate::stored_event::{ReservationEvent, StoredEvent, Undecodable, user_stream};
use event_sourcing::Decider as _;
use event_streams::{AppendError, EventStreams, Expected, NewEvent, ReadError, Unavailable};
use std::time::Duration;
use uuid::Uuid;

/// How often one command may find that somebody was quicker.
const REFUSALS: u32 = 64;
/// How many ids of abandoned registrations one creation may go through.
const FRESH_IDS: u32 = 5;
/// What a rival in flight is given, in milliseconds.
const PATIENCE: std::ops::Range<u64> = 40..60;
/// What a refused command lets others have before it tries again, in milliseconds.
const JITTER: std::ops::Range<u64> = 0..10;

/// Executes commands.
#[derive(Debug, Clone)]
pub struct CommandHandler {
    store: EventStreams,
    keys: SubjectKeys,
    secret: UsernameSecret,
    ids: IdSource,
    erasure: Erasure,
}

/// Why a command was not executed. Holds no personal data.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// A rule said no.
    #[error(transparent)]
    Rejected(#[from] UserError),
    /// Others were quicker every time.
    #[error("others were quicker every time")]
    Conflict,
    /// Something that the command needs is away; it may or may not have been executed.
    #[error("the command needs something that is away")]
    Unavailable(#[source] Box<dyn std::error::Error + Send + Sync>),
}

/// What a command does to the user when its turn comes.
#[derive(Debug, Clone)]
enum Action {
    Create(Profile, SubjectKey),
    Patch(Changes),
    Delete,
}

impl CommandHandler {
    /// Puts a handler together.
    #[must_use]
    pub fn new(
        store: EventStreams,
        keys: SubjectKeys,
        secret: UsernameSecret,
        ids: IdSource,
    ) -> Self {
        let erasure = Erasure::new(store.clone(), keys.clone());
        Self {
            store,
            keys,
            secret,
            ids,
            erasure,
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
            let key = self.keys.fresh().await?;
            let goal = Goal::Create(self.reservation(&profile.username));
            match self
                .execute(user, goal, Action::Create(profile.clone(), key))
                .await?
            {
                Outcome::Committed => return Ok(user),
                Outcome::Taken => return Err(UserError::UsernameTaken.into()),
                Outcome::Contended => return Err(CommandError::Conflict),
                Outcome::IdUsed => {}
            }
        }
        Err(CommandError::Conflict)
    }

    /// Changes some fields of a user.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], [`UserError::UsernameTaken`], or see [`CommandError`].
    pub async fn patch(&self, user: UserId, changes: Changes) -> Result<(), CommandError> {
        let goal = match &changes.username {
            Some(username) => Goal::Hold(self.reservation(username)),
            None => Goal::Keep,
        };
        finished(self.execute(user, goal, Action::Patch(changes)).await?)
    }

    /// Forgets a user: when this returns, the deletion, its tombstone and the destruction of the key are durable.
    ///
    /// # Errors
    /// [`UserError::Unknown`]; [`UserError::Erased`], after a deletion that was cut short was completed; or see [`CommandError`].
    pub async fn delete(&self, user: UserId) -> Result<(), CommandError> {
        finished(self.execute(user, Goal::Delete, Action::Delete).await?)
    }

    /// The user as of now.
    ///
    /// # Errors
    /// [`UserError::Unknown`], [`UserError::Erased`], or [`CommandError::Unavailable`].
    pub async fn get(&self, user: UserId) -> Result<ActiveUser, CommandError> {
        let history = History::read(&self.store, user).await?;
        match history.unseal(&self.keys).await?.state {
            UserState::Active(user) => Ok(user),
            UserState::Absent | UserState::Abandoned => Err(UserError::Unknown.into()),
            UserState::Erased => Err(UserError::Erased.into()),
        }
    }

    fn reservation(&self, username: &Username) -> ReservationName {
        self.secret.reservation(username)
    }

    async fn execute(
        &self,
        user: UserId,
        goal: Goal,
        action: Action,
    ) -> Result<Outcome, CommandError> {
        let mut execution = Execution {
            handler: self,
            command: Uuid::new_v4(),
            user,
            action,
            history: History::default(),
        };
        let mut reservation = Reservation::new(user, goal, REFUSALS);
        loop {
            let step = reservation.next();
            if let Step::Done(outcome) = step {
                return Ok(outcome);
            }
            match execution.take(step).await? {
                Some(seen) => reservation.observe(seen),
                None => return Ok(Outcome::Committed),
            }
        }
    }
}

fn finished(outcome: Outcome) -> Result<(), CommandError> {
    match outcome {
        Outcome::Committed => Ok(()),
        Outcome::Taken => Err(UserError::UsernameTaken.into()),
        Outcome::IdUsed | Outcome::Contended => Err(CommandError::Conflict),
    }
}

/// One command, and what it knows of its user.
struct Execution<'a> {
    handler: &'a CommandHandler,
    command: Uuid,
    user: UserId,
    action: Action,
    history: History,
}

impl Execution<'_> {
    /// Takes one step of the protocol. `None` when it was already so.
    async fn take(&mut self, step: Step) -> Result<Option<Seen>, CommandError> {
        Ok(Some(match step {
            Step::ReadUser(user) => Seen::User(self.read(user).await?),
            Step::ReadReservation(name) => Seen::Reservation(self.holder(&name).await?),
            Step::Wait => {
                pause(PATIENCE).await;
                Seen::Waited
            }
            Step::Claim {
                reservation,
                expected,
            } => {
                let claim = ReservationEvent::Claimed(self.user).encode(Uuid::new_v4());
                self.append(reservation.as_str(), expected, claim).await?
            }
            Step::Fence {
                user,
                fence,
                expected,
            } => {
                let fence = fence.encode(Uuid::new_v4(), user);
                self.append(&user_stream(user), expected, fence).await?
            }
            Step::Commit { expected, claim } => return self.commit(expected, claim).await,
            Step::Release(claim) => self.release(&claim).await?,
            Step::Done(_) => return Ok(None),
        }))
    }

    async fn read(&mut self, user: UserId) -> Result<Standing, CommandError> {
        let history = History::read(&self.handler.store, user).await?;
        let standing = history.standing();
        if user == self.user {
            self.history = history;
        }
        Ok(standing)
    }

    async fn holder(&self, name: &ReservationName) -> Result<Holder, CommandError> {
        let Some(last) = self.handler.store.read_last(name.as_str()).await? else {
            return Ok(Holder::Nobody(None));
        };
        Ok(match ReservationEvent::decode(&last)? {
            ReservationEvent::Claimed(user) => Holder::Claimed(user, last.revision),
            ReservationEvent::Released => Holder::Nobody(Some(last.revision)),
        })
    }

    async fn commit(
        &mut self,
        expected: Option<u64>,
        claim: Option<Claim>,
    ) -> Result<Option<Seen>, CommandError> {
        let (events, key) = self.decide(claim).await?;
        if events.is_empty() {
            return Ok(None);
        }
        let encode = |(index, event): (u32, &UserEvent)| {
            let id = Uuid::new_v5(&self.command, &index.to_be_bytes());
            StoredEvent::encode(id, self.user, event, &key)
        };
        let events = (0..).zip(&events).map(encode).collect();
        let stream = user_stream(self.user);
        let seen = append(&self.handler.store, &stream, expected, events).await?;
        if seen == Seen::Refused {
            pause(JITTER).await;
        }
        Ok(Some(seen))
    }

    async fn decide(
        &mut self,
        claim: Option<Claim>,
    ) -> Result<(Vec<UserEvent>, SubjectKey), CommandError> {
        let (state, key, command) = match (&self.action, claim) {
            (Action::Create(profile, key), Some(claim)) => {
                let profile = profile.clone();
                // The protocol lets nobody be created but under an id whose stream is absent.
                let create = UserCommand::Create { profile, claim };
                (UserState::Absent, Some(key.clone()), create)
            }
            (Action::Create(..), None) => return Err(CommandError::Conflict),
            (Action::Patch(changes), claim) => {
                let changes = changes.clone();
                let unsealed = self.history.unseal(&self.handler.keys).await?;
                let patch = UserCommand::Patch { changes, claim };
                (unsealed.state, unsealed.key, patch)
            }
            (Action::Delete, _) => {
                let unsealed = self.history.unseal(&self.handler.keys).await?;
                (unsealed.state, unsealed.key, UserCommand::Delete)
            }
        };
        match (User::decide(&state, command), key) {
            (Ok(events), Some(key)) => Ok((events, key)),
            (Ok(_), None) => Err(UserError::Unknown.into()),
            (Err(refusal), _) => {
                self.complete_erasure().await?;
                Err(refusal.into())
            }
        }
    }

    /// Whoever asks for a deletion that was cut short finishes it first.
    async fn complete_erasure(&self) -> Result<(), CommandError> {
        match (&self.action, self.history.key()) {
            (Action::Delete, Some(key)) => Ok(self.handler.erasure.erase(self.user, key).await?),
            (Action::Delete | Action::Create(..) | Action::Patch(_), _) => Ok(()),
        }
    }

    async fn release(&self, claim: &Claim) -> Result<Seen, CommandError> {
        self.complete_erasure().await?;
        if let Err(error) = self.handler.erasure.release(claim).await {
            // The command is committed, and a claim whose owner lives elsewhere holds nothing.
            tracing::debug!(%error, "a reservation was left");
        }
        Ok(Seen::Refused)
    }

    async fn append(
        &self,
        stream: &str,
        expected: Option<u64>,
        event: NewEvent,
    ) -> Result<Seen, CommandError> {
        append(&self.handler.store, stream, expected, vec![event]).await
    }
}

async fn append(
    store: &EventStreams,
    stream: &str,
    expected: Option<u64>,
    events: Vec<NewEvent>,
) -> Result<Seen, CommandError> {
    let expected = expected.map_or(Expected::NoStream, Expected::Revision);
    match store.append(stream, expected, events).await {
        Ok(appended) => Ok(Seen::Appended(appended.revision)),
        Err(AppendError::Conflict { .. } | AppendError::StreamDeleted) => Ok(Seen::Refused),
        Err(
            error @ (AppendError::TooLarge | AppendError::NotWritten | AppendError::Unavailable(_)),
        ) => Err(away(error)),
    }
}

async fn pause(milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(milliseconds))).await;
}

fn away(error: impl std::error::Error + Send + Sync + 'static) -> CommandError {
    CommandError::Unavailable(Box::new(error))
}

macro_rules! away_from {
    ($($error:ty),*) => {$(
        impl From<$error> for CommandError {
            fn from(error: $error) -> Self {
                away(error)
            }
        }
    )*};
}

away_from!(
    HistoryError,
    KeysError,
    NoIds,
    ErasureError,
    Undecodable,
    ReadError,
    Unavailable
);
