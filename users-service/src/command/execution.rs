//! One command on its way: it does what the reservation's protocol says next, and tells it what came of that.
//!
//! Invariants: what is committed was decided upon what the user's stream said before the claim; the ids of a command's
//! events are derived from the command's, those of claims, fences and releases are drawn once per append.

use super::error::CommandError;
use super::history::{History, Life};
use super::reservation::{Goal, Holder, Outcome, Reservation, Seen, Standing, Step};
use crate::domain::{
    Changes, Claim, Profile, ReservationName, User, UserCommand, UserError, UserEvent, UserId,
    UserState,
};
use crate::privacy::cipher::SubjectKey;
use crate::privacy::erasure::Erasure;
use crate::privacy::subject_keys::{Lookup, SubjectKeys};
use crate::stored_event::{ReservationEvent, StoredEvent, user_stream};
use event_sourcing::Decider as _;
use event_streams::{AppendError, EventStreams, Expected, NewEvent};
use std::ops::Range;
use std::time::Duration;
use uuid::Uuid;

/// How often one command may find that somebody was quicker.
const REFUSALS: u32 = 64;
/// What a rival in flight is given, in milliseconds.
const PATIENCE: Range<u64> = 40..60;
/// What a refused command lets others have before it tries again, in milliseconds.
const JITTER: Range<u64> = 0..10;

/// What commands are executed on.
#[derive(Debug, Clone)]
pub(super) struct Stores {
    pub(super) events: EventStreams,
    pub(super) keys: SubjectKeys,
    pub(super) erasure: Erasure,
}

/// What a command does to the user when its turn comes.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Create(Profile, SubjectKey),
    Patch(Changes),
    Delete,
}

/// One command, and what it knows of its user.
pub(super) struct Execution<'a> {
    stores: &'a Stores,
    command: Uuid,
    user: UserId,
    action: Action,
    history: History,
}

impl<'a> Execution<'a> {
    pub(super) fn new(stores: &'a Stores, user: UserId, action: Action) -> Self {
        Self {
            stores,
            command: Uuid::new_v4(),
            user,
            action,
            history: History::default(),
        }
    }

    /// Goes on until it is committed, or cannot be.
    pub(super) async fn run(mut self, goal: Goal) -> Result<Outcome, CommandError> {
        let mut reservation = Reservation::new(self.user, goal, REFUSALS);
        loop {
            let step = reservation.next();
            if let Step::Done(outcome) = step {
                return Ok(outcome);
            }
            let seen = self.take(step).await?;
            reservation.observe(seen);
        }
    }

    /// Takes one step of the protocol.
    async fn take(&mut self, step: Step) -> Result<Seen, CommandError> {
        Ok(match step {
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
            Step::Commit { expected, claim } => self.commit(expected, claim).await?,
            Step::Release(claim) => self.release(&claim).await?,
            Step::Done(_) => Seen::Unchanged,
        })
    }

    async fn read(&mut self, user: UserId) -> Result<Standing, CommandError> {
        let history = History::read(&self.stores.events, user).await?;
        let standing = history.standing();
        if user == self.user {
            self.history = history;
        }
        Ok(standing)
    }

    async fn holder(&self, name: &ReservationName) -> Result<Holder, CommandError> {
        let Some(last) = self.stores.events.read_last(name.as_str()).await? else {
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
    ) -> Result<Seen, CommandError> {
        let (events, key) = self.decide(claim).await?;
        if events.is_empty() {
            return Ok(Seen::Unchanged);
        }
        let encode = |(index, event): (u32, &UserEvent)| {
            let id = Uuid::new_v5(&self.command, &index.to_be_bytes());
            StoredEvent::encode(id, self.user, event, &key)
        };
        let events = (0..).zip(&events).map(encode).collect();
        let stream = user_stream(self.user);
        let seen = append(&self.stores.events, &stream, expected, events).await?;
        if seen == Seen::Refused {
            pause(JITTER).await;
        }
        Ok(seen)
    }

    async fn decide(
        &self,
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
                let (state, key) = match self.history.life(&self.stores.keys).await? {
                    Life::Alive(key) => (self.history.open(&key)?, Some(key)),
                    Life::Over(state) => (state, None),
                };
                (state, key, UserCommand::Patch { changes, claim })
            }
            (Action::Delete, _) => match self.history.life(&self.stores.keys).await? {
                // No name is needed to forget somebody, so a value that does not open is no obstacle.
                Life::Alive(key) => return Ok((vec![UserEvent::Deleted], key)),
                Life::Over(state) => {
                    self.complete_erasure().await?;
                    (state, None, UserCommand::Delete)
                }
            },
        };
        match (User::decide(&state, command)?, key) {
            (events, Some(key)) => Ok((events, key)),
            (_, None) => Err(UserError::Unknown.into()),
        }
    }

    /// Whoever asks again for a deletion that was cut short finishes it first. The destroyed key was its last step.
    async fn complete_erasure(&self) -> Result<(), CommandError> {
        let Some(key) = self.history.key() else {
            return Ok(());
        };
        match self.stores.keys.find(key).await? {
            Lookup::Destroyed => Ok(()),
            Lookup::Found(_) | Lookup::Missing => {
                Ok(self.stores.erasure.erase(self.user, key).await?)
            }
        }
    }

    async fn release(&self, claim: &Claim) -> Result<Seen, CommandError> {
        if let (Action::Delete, Some(key)) = (&self.action, self.history.key()) {
            self.stores.erasure.erase(self.user, key).await?;
        }
        if let Err(error) = self.stores.erasure.release(claim).await {
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
        append(&self.stores.events, stream, expected, vec![event]).await
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
        ) => Err(error.into()),
    }
}

async fn pause(milliseconds: Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(milliseconds))).await;
}
