//! The execution of one command. It performs the steps of the [`Reservation`] protocol, and reports their results to it.
//!
//! Invariants:
//! - A commit is decided on the user's stream as it was read before the claim.
//! - The ids of a command's events are derived from the command's id. Claims, fences and releases have random ids.
//! - A creation that is refused hands its key back for the next creation.

use super::envelope::{Command, Envelope};
use super::error::CommandError;
use super::holders::{holder, is_held_by_another};
use super::reservation::{Goal, Reservation, ReservationOutcome, Seen, Step, UserStatus};
use super::stores::Stores;
use super::user_history::{Activity, UserHistory};
use crate::domain::{Claim, ReservationName, User, UserCommand, UserError, UserId, UserState};
use crate::privacy::cipher::SubjectKey;
use crate::privacy::subject_keys::Lookup;
use crate::stored_event::{ReservationEvent, StoredEvent, tombstone, user_stream};
use event_sourcing::Decider as _;
use event_streams::{AppendError, EventStreams, Expected, NewEvent};
use std::ops::Range;
use std::time::Duration;
use uuid::Uuid;

/// The most conflicts with other commands that one command survives.
const REFUSALS: u32 = 64;
/// How long a command waits for a rival to finish, in milliseconds.
const PATIENCE: Range<u64> = 40..60;
/// The pause of a refused command before it retries, in milliseconds.
const JITTER: Range<u64> = 0..10;

/// One command, and what is known about its user.
pub(super) struct Execution<'a> {
    stores: &'a Stores,
    envelope: &'a Envelope,
    user: UserId,
    history: UserHistory,
    /// The revision of the command's last event, once it is stored.
    committed: Option<u64>,
    /// The reservations that the new name had before Unicode folded more letters.
    former: Vec<ReservationName>,
    /// The key of a creation, as long as certainly nothing that was sealed under it is stored.
    key: Option<SubjectKey>,
    /// The key of a creation whose commit was refused, until the user's stream is read again.
    refused: Option<SubjectKey>,
}

impl<'a> Execution<'a> {
    pub(super) fn new(stores: &'a Stores, user: UserId, envelope: &'a Envelope) -> Self {
        Self {
            stores,
            envelope,
            user,
            history: UserHistory::default(),
            committed: None,
            former: Vec::new(),
            key: None,
            refused: None,
        }
    }

    /// Refuses a name that another user holds under one of these former reservations.
    pub(super) fn respecting(mut self, former: Vec<ReservationName>) -> Self {
        self.former = former;
        self
    }

    /// Performs steps until the command is committed or refused.
    pub(super) async fn run(&mut self, goal: Goal) -> Result<ReservationOutcome, CommandError> {
        let mut reservation = Reservation::new(self.user, goal, REFUSALS);
        loop {
            let step = reservation.next();
            if let Step::Done(outcome) = step {
                return Ok(outcome);
            }
            let seen = self.perform(step).await?;
            reservation.observe(seen);
        }
    }

    /// The revision of the last event that changed the user. `None` before a creation is committed.
    pub(super) fn revision(&self) -> Option<u64> {
        self.committed.or_else(|| self.history.changed())
    }

    /// Performs one step of the protocol.
    async fn perform(&mut self, step: Step) -> Result<Seen, CommandError> {
        Ok(match step {
            Step::ReadUser(user) => Seen::User(self.read_user(user).await?),
            Step::ReadReservation(name) => self.read_reservation(&name).await?,
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

    async fn read_user(&mut self, user: UserId) -> Result<UserStatus, CommandError> {
        let histories = &self.stores.histories;
        let history = match self.envelope.command {
            Command::Delete(_) => histories.read_to_erase(user).await?,
            Command::Create(_) | Command::Patch(..) => histories.read(user).await?,
        };
        let status = history.status();
        if user == self.user {
            self.history = history;
            self.recover_key(&status);
        }
        Ok(status)
    }

    async fn read_reservation(&self, name: &ReservationName) -> Result<Seen, CommandError> {
        if is_held_by_another(self.stores, self.user, &self.former).await? {
            return Ok(Seen::HeldUnderFormerName);
        }
        Ok(Seen::Reservation(holder(self.stores, name).await?))
    }

    /// Gets the key of a creation before the claim, so that a creation without a key leaves no claim behind.
    async fn prepare_key(&mut self) -> Result<(), CommandError> {
        if let (Command::Create(_), None) = (&self.envelope.command, &self.key) {
            self.key = Some(self.stores.keys.fresh().await?);
        }
        Ok(())
    }

    /// Recovers the key after a refused commit. If the stream contains only the fence, the key is unused.
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
        // From here on the key counts as used, until the stream proves the contrary.
        let key = self.key.take();
        let stream = user_stream(self.user);
        let seen = append(&self.stores.events, &stream, expected, events).await?;
        match seen {
            Seen::Refused => {
                self.refused = key;
                pause(JITTER).await;
            }
            Seen::Appended(revision) => self.committed = Some(revision),
            _ => {}
        }
        Ok(seen)
    }

    async fn decide(&self, claim: Option<Claim>) -> Result<Vec<NewEvent>, CommandError> {
        match (&self.envelope.command, claim, &self.key) {
            (Command::Create(profile), Some(claim), Some(key)) => {
                let profile = profile.clone();
                // The commit expects the user's stream to be absent, so the state is known without a read.
                let create = UserCommand::Create { profile, claim };
                self.events(&UserState::Absent, create, key)
            }
            (Command::Create(_), ..) => Err(CommandError::Conflict),
            (Command::Patch(_, changes), claim, _) => {
                let changes = changes.clone();
                let patch = UserCommand::Patch { changes, claim };
                match self.history.activity(&self.stores.keys).await? {
                    Activity::Active(key) => self.events(&self.history.open(&key)?, patch, &key),
                    Activity::Inactive(state) => Err(refusal(&state, patch).into()),
                }
            }
            (Command::Delete(_), ..) => self.delete().await,
        }
    }

    /// Decides a deletion by the user's status. It needs neither the key nor the names.
    async fn delete(&self) -> Result<Vec<NewEvent>, CommandError> {
        match self.history.status() {
            UserStatus::Active { .. } => {
                let deleted = tombstone(self.event_id(0), self.user);
                Ok(vec![self.envelope.origin().added_to(deleted)])
            }
            UserStatus::Absent | UserStatus::Abandoned => Err(UserError::Unknown.into()),
            UserStatus::Erased => {
                self.complete_erasure().await?;
                Err(UserError::Erased.into())
            }
        }
    }

    /// Decides the command on this state, and seals the events under the key.
    fn events(
        &self,
        state: &UserState,
        command: UserCommand,
        key: &SubjectKey,
    ) -> Result<Vec<NewEvent>, CommandError> {
        let events = User::decide(state, command)?;
        let origin = self.envelope.origin();
        let encode = |(index, event)| {
            let id = self.event_id(index);
            origin.added_to(StoredEvent::encode(id, self.user, event, key))
        };
        Ok((0..).zip(&events).map(encode).collect())
    }

    /// The id of an event of this command. A repeated append has the same id.
    fn event_id(&self, index: u32) -> Uuid {
        Uuid::new_v5(&self.envelope.id, &index.to_be_bytes())
    }

    /// Completes an interrupted deletion, when the deletion is requested again. If the key is destroyed, it was complete.
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
        if let (Command::Delete(_), Some(key)) = (&self.envelope.command, self.history.key()) {
            self.stores.erasure.erase(self.user, key).await?;
        }
        if let Err(error) = self.stores.erasure.release(claim).await {
            // The command is committed, and a claim that its owner's stream no longer names holds nothing.
            tracing::debug!(%error, "a reservation was not released");
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
    /// Hands back an unused key, also if the client disconnects during the command.
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            self.stores.keys.hand_back(key);
        }
    }
}

/// The refusal of the command in the state of an inactive user.
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
