//! One command on its way: it does what the reservation's protocol says next, and tells it what came of that.
//!
//! Invariants: what is committed was decided upon what the user's stream said before the claim; the ids of a command's
//! events are derived from the command's, those of claims, fences and releases are drawn once per append; a creation that
//! is refused leaves its key to the next one.

use super::error::CommandError;
use super::holders::{holder, is_held_by_another};
use super::reservation::{Goal, Reservation, ReservationOutcome, Seen, Step, UserStatus};
use super::user_history::{Life, UserHistory};
use crate::domain::{
    Changes, Claim, Profile, ReservationName, User, UserCommand, UserError, UserId, UserState,
};
use crate::erasure::Erasure;
use crate::privacy::cipher::SubjectKey;
use crate::privacy::subject_keys::{Lookup, SubjectKeys};
use crate::stored_event::{ReservationEvent, StoredEvent, tombstone, user_stream};
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
    Create(Profile),
    Patch(Changes),
    Delete,
}

/// One command, and what it knows of its user.
pub(super) struct Execution<'a> {
    stores: &'a Stores,
    command: Uuid,
    user: UserId,
    action: Action,
    history: UserHistory,
    /// Reservations that the name had before more letters were folded.
    former: Vec<ReservationName>,
    /// The key of a creation, as long as it is certain that nothing is stored that was sealed under it.
    key: Option<SubjectKey>,
    /// The key of a creation whose commit was refused, until the user's stream was looked at.
    refused: Option<SubjectKey>,
}

impl<'a> Execution<'a> {
    pub(super) fn new(stores: &'a Stores, user: UserId, action: Action) -> Self {
        Self {
            stores,
            command: Uuid::new_v4(),
            user,
            action,
            history: UserHistory::default(),
            former: Vec::new(),
            key: None,
            refused: None,
        }
    }

    /// Takes no name that somebody else holds by one of these reservations.
    pub(super) fn instead_of(mut self, former: Vec<ReservationName>) -> Self {
        self.former = former;
        self
    }

    /// Goes on until it is committed, or cannot be.
    pub(super) async fn run(mut self, goal: Goal) -> Result<ReservationOutcome, CommandError> {
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
            Step::ReadReservation(name) => self.look_at(&name).await?,
            Step::Wait => {
                pause(PATIENCE).await;
                Seen::Waited
            }
            Step::Claim {
                reservation,
                expected,
            } => {
                self.prepare_key().await?;
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

    async fn read(&mut self, user: UserId) -> Result<UserStatus, CommandError> {
        let store = &self.stores.events;
        let history = match self.action {
            Action::Delete => UserHistory::read_to_erase(store, user).await?,
            Action::Create(_) | Action::Patch(_) => UserHistory::read(store, user).await?,
        };
        let status = history.status();
        if user == self.user {
            self.history = history;
            self.recover_key(&status);
        }
        Ok(status)
    }

    async fn look_at(&self, name: &ReservationName) -> Result<Seen, CommandError> {
        let store = &self.stores.events;
        if is_held_by_another(store, self.user, &self.former).await? {
            return Ok(Seen::HeldFormerly);
        }
        Ok(Seen::Reservation(holder(store, name).await?))
    }

    /// A creation has a key before it claims a name: without one it leaves no claim behind.
    async fn prepare_key(&mut self) -> Result<(), CommandError> {
        if let (Action::Create(_), None) = (&self.action, &self.key) {
            self.key = Some(self.stores.keys.fresh().await?);
        }
        Ok(())
    }

    /// The commit was refused. If the stream has nothing but the fence, nothing is sealed under the key.
    fn recover_key(&mut self, status: &UserStatus) {
        if let (UserStatus::Abandoned, Some(key)) = (status, self.refused.take()) {
            self.key = Some(key);
        }
    }

    async fn commit(
        &mut self,
        expected: Option<u64>,
        claim: Option<Claim>,
    ) -> Result<Seen, CommandError> {
        let events = self.decide(claim).await?;
        if events.is_empty() {
            return Ok(Seen::Unchanged);
        }
        // From here on the key may be in use, until the contrary is known.
        let key = self.key.take();
        let stream = user_stream(self.user);
        let seen = append(&self.stores.events, &stream, expected, events).await?;
        if seen == Seen::Refused {
            self.refused = key;
            pause(JITTER).await;
        }
        Ok(seen)
    }

    async fn decide(&self, claim: Option<Claim>) -> Result<Vec<NewEvent>, CommandError> {
        match (&self.action, claim, &self.key) {
            (Action::Create(profile), Some(claim), Some(key)) => {
                let profile = profile.clone();
                // The protocol lets nobody be created but under an id whose stream is absent.
                let create = UserCommand::Create { profile, claim };
                self.events(&UserState::Absent, create, key)
            }
            (Action::Create(_), ..) => Err(CommandError::Conflict),
            (Action::Patch(changes), claim, _) => {
                let changes = changes.clone();
                let patch = UserCommand::Patch { changes, claim };
                match self.history.life(&self.stores.keys).await? {
                    Life::Alive(key) => self.events(&self.history.open(&key)?, patch, &key),
                    Life::Over(state) => Err(refusal(&state, patch).into()),
                }
            }
            (Action::Delete, ..) => self.delete().await,
        }
    }

    /// The status decides. Neither key nor names are needed to forget somebody, so nothing is looked up or opened.
    async fn delete(&self) -> Result<Vec<NewEvent>, CommandError> {
        match self.history.status() {
            UserStatus::Alive { .. } => Ok(vec![tombstone(self.event_id(0), self.user)]),
            UserStatus::Absent | UserStatus::Abandoned => Err(UserError::Unknown.into()),
            UserStatus::Erased => {
                self.complete_erasure().await?;
                Err(UserError::Erased.into())
            }
        }
    }

    /// What the command makes of this state, sealed under the key.
    fn events(
        &self,
        state: &UserState,
        command: UserCommand,
        key: &SubjectKey,
    ) -> Result<Vec<NewEvent>, CommandError> {
        let events = User::decide(state, command)?;
        let encode = |(index, event)| {
            let id = self.event_id(index);
            StoredEvent::encode(id, self.user, event, key)
        };
        Ok((0..).zip(&events).map(encode).collect())
    }

    /// A repeated write of a command has the same id.
    fn event_id(&self, index: u32) -> Uuid {
        Uuid::new_v5(&self.command, &index.to_be_bytes())
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

impl Drop for Execution<'_> {
    /// Also when the caller goes away in the middle, the next creation takes the unused key.
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.stores.keys.hand_back(key);
        }
    }
}

/// Why the command is refused to somebody who does not live.
fn refusal(state: &UserState, command: UserCommand) -> UserError {
    User::decide(state, command)
        .err()
        .unwrap_or(UserError::Unknown)
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
