//! The execution of one command. It performs the steps of the [`Reservation`] protocol, and reports their results to it.
//!
//! Invariants:
//! - A commit is decided on the user's stream as it was read before the claim.
//! - The ids of a command's events are derived from the command's id. Claims, fences and releases have random ids.
//! - A creation that is refused hands its key back for the next creation. A creation that was sent with an idempotency key
//!   does not, because the stream of the command names its key.
//! - A command that was sent with an idempotency key is decided only by its owner, and only if the user's stream does not have
//!   its event yet.

use super::command_memory::CommandMemory;
use super::envelope::{Command, Envelope};
use super::error::CommandError;
use super::holders::{holder, is_held_by_another};
use super::plan::Plan;
use super::reservation::{Reservation, ReservationOutcome, Seen, Step, UserStatus};
use super::stores::Stores;
use super::user_history::{SnapshotNeed, UserHistory};
use crate::domain::{Claim, ReservationName, UserError, UserId};
use crate::privacy::cipher::SubjectKey;
use crate::stored_event::{ReservationEvent, user_stream};
use event_streams::{EventStreams, NewEvent};
use std::ops::Range;
use std::time::Duration;
use uuid::Uuid;

mod chosen_id;
mod decision;
#[cfg(test)]
mod tests;

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
    /// The user's history, if it was read before the command.
    preloaded: Option<UserHistory>,
    /// Whether even a creation reads the user's stream first.
    read_first: bool,
    /// The revision of the command's event, once it is stored.
    committed: Option<u64>,
    /// The reservations that the new name had before Unicode folded more letters.
    former: Vec<ReservationName>,
    /// The key of a creation, as long as certainly nothing that was sealed under it is stored.
    key: Option<SubjectKey>,
    /// The key of a creation whose commit was refused, until the user's stream is read again.
    refused: Option<SubjectKey>,
    /// The key of an existing user whose names are changed.
    subject: Option<SubjectKey>,
    /// The memory of a command that was sent with an idempotency key.
    ownership: Option<Ownership<'a>>,
}

/// The ownership of a command that was sent with an idempotency key. Another process ends it by appending to the memory.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ownership<'a> {
    pub(super) memory: &'a CommandMemory,
    /// The revision that the owner appended.
    pub(super) head: u64,
    /// The revision of the user's stream before the command.
    pub(super) after: Option<u64>,
}

/// The end of a command that was not refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ran {
    /// The command's event is stored at this revision.
    Committed(u64),
    /// The user is as requested since the event with this revision.
    Unchanged(u64),
    /// The id of the new user is already used or abandoned. A new id is needed.
    IdUsed,
}

impl<'a> Execution<'a> {
    pub(super) fn new(stores: &'a Stores, user: UserId, envelope: &'a Envelope) -> Self {
        Self {
            stores,
            envelope,
            user,
            history: UserHistory::default(),
            preloaded: None,
            read_first: false,
            committed: None,
            former: Vec::new(),
            key: None,
            refused: None,
            subject: None,
            ownership: None,
        }
    }

    /// Executes a command that was sent with an idempotency key. A creation uses this key.
    pub(super) fn owned(mut self, ownership: Ownership<'a>, key: Option<SubjectKey>) -> Self {
        self.ownership = Some(ownership);
        self.key = key;
        self
    }

    /// Uses a history that was read before the command, instead of reading it first.
    pub(super) fn after_reading(mut self, history: Option<UserHistory>) -> Self {
        self.preloaded = history;
        self
    }

    /// Reads the user's stream first, also for a creation: another process may have executed the command.
    pub(super) fn reading_first(mut self, read_first: bool) -> Self {
        self.read_first = read_first;
        self
    }

    /// Performs steps until the command is committed or refused.
    pub(super) async fn run(&mut self, plan: Plan) -> Result<Ran, CommandError> {
        if let Some(ran) = self.check_chosen_id().await? {
            return Ok(ran);
        }
        self.former = plan.former;
        let mut reservation = self.started(Reservation::new(self.user, plan.goal, REFUSALS))?;
        loop {
            let step = reservation.next();
            if let Step::Done(outcome) = step {
                self.write_snapshot();
                return self.end(outcome);
            }
            let seen = self.perform(step).await?;
            reservation.observe(seen);
        }
    }

    fn started(&mut self, reservation: Reservation) -> Result<Reservation, CommandError> {
        Ok(match self.preloaded.take() {
            Some(history) => {
                self.history = history;
                self.check_precondition()?;
                reservation.after_reading(self.history.status())
            }
            None if self.read_first => reservation.reading_first(),
            None => reservation,
        })
    }

    fn end(&self, outcome: ReservationOutcome) -> Result<Ran, CommandError> {
        match (outcome, self.committed, self.history.changed()) {
            (ReservationOutcome::Committed, Some(revision), _) => Ok(Ran::Committed(revision)),
            (ReservationOutcome::Committed, None, Some(revision)) => Ok(Ran::Unchanged(revision)),
            (ReservationOutcome::Taken, ..) => Err(UserError::UsernameTaken.into()),
            (ReservationOutcome::IdUsed, ..) => Ok(Ran::IdUsed),
            (ReservationOutcome::Superseded, ..) => Err(CommandError::Superseded),
            (ReservationOutcome::Gone, ..) => Err(CommandError::Gone),
            (ReservationOutcome::Committed, None, None) | (ReservationOutcome::Contended, ..) => {
                Err(CommandError::Conflict)
            }
        }
    }

    /// Writes a snapshot of a long history, as it was before the command.
    fn write_snapshot(&self) {
        if let (Some(key), Some(_)) = (&self.subject, self.committed)
            && self.history.need() != SnapshotNeed::None
        {
            self.stores
                .snapshots
                .write_later(self.user, &self.history, key);
        }
    }

    /// The user's status, as it was read last.
    pub(super) fn status(&self) -> UserStatus {
        self.history.status()
    }

    /// Performs one step of the protocol.
    async fn perform(&mut self, step: Step) -> Result<Seen, CommandError> {
        Ok(match step {
            Step::ReadUser(user) if user == self.user => self.read_own().await?,
            Step::ReadUser(user) => Seen::User(self.stores.histories.read(user).await?.status()),
            Step::CheckOwner => self.check_owner().await?,
            Step::ReadReservation(name) => self.read_reservation(&name).await?,
            Step::Wait => {
                pause(PATIENCE).await;
                Seen::Waited
            }
            Step::Claim {
                reservation,
                expected,
                leaves,
            } => {
                self.prepare_key().await?;
                let user = self.user;
                let claim = ReservationEvent::Claimed { user, leaves }.encode(Uuid::new_v4());
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

    async fn read_own(&mut self) -> Result<Seen, CommandError> {
        let history = self.read_again().await?;
        self.history = match self.envelope.command {
            Command::Delete(_) => history.require_key()?,
            Command::Create(_) | Command::Patch(..) => history.require_known_events()?,
        };
        let status = self.history.status();
        match (self.history.found(), &self.envelope.command, &status) {
            (None, ..) => Ok(Seen::User(status)),
            (Some(revision), Command::Delete(_), _) => {
                self.complete_erasure().await?;
                self.committed = Some(revision);
                Ok(Seen::AlreadyCommitted)
            }
            (Some(_), Command::Create(_) | Command::Patch(..), UserStatus::Erased) => {
                Err(CommandError::Gone)
            }
            (Some(revision), Command::Create(_) | Command::Patch(..), _) => {
                self.committed = Some(revision);
                Ok(Seen::AlreadyCommitted)
            }
        }
    }

    /// Reads the user's stream, and looks for the event of a command that other processes execute too.
    async fn read_again(&self) -> Result<UserHistory, CommandError> {
        let histories = &self.stores.histories;
        Ok(match (&self.ownership, &self.envelope.command) {
            (Some(Ownership { after, .. }), _) => {
                let sought = self.envelope.event_after(*after);
                histories.read_seeking(self.user, &sought).await?
            }
            (None, Command::Delete(_)) => histories.read_to_erase(self.user).await?,
            (None, Command::Create(_) | Command::Patch(..)) => histories.read(self.user).await?,
        })
    }

    /// Makes sure that the command still has the same owner, and may be decided on the user's stream as it was just read.
    async fn check_owner(&mut self) -> Result<Seen, CommandError> {
        if let Some(Ownership { memory, head, .. }) = self.ownership
            && !memory.is_owned_at(head).await?
        {
            return Ok(Seen::Superseded);
        }
        self.check_precondition()?;
        self.recover_key();
        Ok(Seen::Owned)
    }

    /// Refuses the command if the user exists in another version than the caller requires. This is checked before the claim, on
    /// the same read on which the command is decided.
    fn check_precondition(&self) -> Result<(), CommandError> {
        let precondition = &self.envelope.precondition;
        match (self.history.status(), self.history.changed()) {
            (UserStatus::Active { .. }, Some(changed)) if !precondition.allows(changed) => {
                Err(CommandError::PreconditionFailed)
            }
            _ => Ok(()),
        }
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
    fn recover_key(&mut self) {
        if let (UserStatus::Abandoned, Some(key)) = (self.history.status(), self.refused.take()) {
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
        if let Seen::Appended(revision) = seen {
            self.committed = Some(revision);
        } else {
            self.refused = key;
            pause(JITTER).await;
        }
        Ok(seen)
    }

    async fn complete_erasure(&self) -> Result<(), CommandError> {
        self.stores.complete_erasure(self.user, &self.history).await
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
        if let (Some(key), None) = (self.key.take(), &self.ownership) {
            self.stores.keys.hand_back(key);
        }
    }
}

async fn append(
    store: &EventStreams,
    stream: &str,
    expected: Option<u64>,
    events: Vec<NewEvent>,
) -> Result<Seen, CommandError> {
    let appended = store.append_at(stream, expected, events).await?;
    Ok(appended.map_or(Seen::Refused, |appended| Seen::Appended(appended.revision)))
}

async fn pause(milliseconds: Range<u64>) {
    tokio::time::sleep(Duration::from_millis(rand::random_range(milliseconds))).await;
}
