//! The execution of a command that was sent with an idempotency key: once, whoever repeats it, and wherever a process dies.
//!
//! The command is first accepted in a stream of its own, its memory. The writer of the memory's last event owns the command.
//! A repeated command waits for the outcome; if none comes, it takes the command over by appending to the memory.
//!
//! Invariants:
//! - A command with an event has its outcome in the user's stream, and there only. The event's id is derived from the command's
//!   id, so no two processes store it twice.
//! - A command without an event has its outcome in the memory, and only its owner writes that. A former owner may still be
//!   about to commit, so an owner who took over fences the user's stream first.
//! - A former owner whose commit was refused reads the user's stream, then finds out that it is not the owner, and stops.
//! - Unavailability, conflicts and time-outs are no outcome. Nothing about them is stored.

use super::command_memory::{Acceptance, CommandMemory, Remembered};
use super::envelope::{Command, Committed, Envelope};
use super::error::CommandError;
use super::execution::{Execution, Ownership, Ran};
use super::plan::Plan;
use super::reservation::UserStatus;
use super::stores::Stores;
use super::user_history::{Activity, UserHistory};
use crate::domain::{UserError, UserId};
use crate::ids::IdSource;
use crate::privacy::cipher::SubjectKey;
use crate::privacy::pseudonym::UsernameSecret;
use crate::stored_event::{AcceptedCommand, CommandEvent, Fence, NoEvent, user_stream};
use event_streams::{AppendError, Expected};
use std::time::Duration;
use uuid::Uuid;

mod outcome;

/// How often a repeated command follows another owner.
const FOLLOWS: u32 = 4;
/// How often an owner decides the command anew.
const DECISIONS: u32 = 8;

/// The execution of one command that was sent with a key.
pub(super) struct Once<'a> {
    stores: &'a Stores,
    secret: &'a UsernameSecret,
    ids: &'a IdSource,
    envelope: &'a Envelope,
    memory: CommandMemory,
    kept_for: Duration,
}

/// What an owner needs in order to decide the command.
struct Turn {
    envelope: Envelope,
    user: UserId,
    key: Option<SubjectKey>,
    history: Option<UserHistory>,
    /// The revision of the user's stream before the command. `None` if the user was not active.
    after: Option<u64>,
    /// The revision of the owner's event in the memory.
    head: u64,
    /// Whether another process may have been the owner before.
    taken_over: bool,
}

impl<'a> Once<'a> {
    pub(super) fn new(
        (stores, secret, ids): (&'a Stores, &'a UsernameSecret, &'a IdSource),
        (envelope, stream): (&'a Envelope, String),
        kept_for: Duration,
    ) -> Self {
        Self {
            stores,
            secret,
            ids,
            envelope,
            memory: CommandMemory::new(stores.events.clone(), stream),
            kept_for,
        }
    }

    /// Executes the command, or returns the outcome of its first execution.
    pub(super) async fn execute(&self) -> Result<Committed, CommandError> {
        let turn = match self.first_turn().await {
            Ok(turn) => turn,
            // Without a new id, a creation that was executed before can still be answered.
            Err(error) => return self.follow(self.memory.read().await?.ok_or(error)?).await,
        };
        match self
            .memory
            .accept(self.accepted(&turn), &self.envelope.origin_of_command())
            .await?
        {
            Acceptance::New(head) => self.execute_first(Turn { head, ..turn }).await,
            Acceptance::Known(known) => {
                self.hand_back(turn.key);
                self.follow(known).await
            }
        }
    }

    /// Prepares the first execution: the id and the key of a new user, or the history and the key of an existing one.
    async fn first_turn(&self) -> Result<Turn, CommandError> {
        let histories = &self.stores.histories;
        let (user, key, history) = match &self.envelope.command {
            Command::Create(_) => {
                let user = match self.envelope.chosen_id {
                    Some(chosen) => chosen,
                    None => self.ids.next().await?,
                };
                (user, Some(self.stores.keys.fresh().await?), None)
            }
            Command::Patch(user, _) => {
                let history = histories.read(*user).await?;
                let key = match history.activity(&self.stores.keys).await? {
                    Activity::Active(key) => Some(key),
                    Activity::Inactive(_) => None,
                };
                (*user, key, Some(history))
            }
            Command::Delete(user) => (*user, None, Some(histories.read_to_erase(*user).await?)),
        };
        Ok(Turn {
            envelope: self.envelope.clone(),
            user,
            key,
            after: history.as_ref().and_then(revision_if_active),
            history,
            head: 0,
            taken_over: false,
        })
    }

    fn accepted(&self, turn: &Turn) -> AcceptedCommand {
        let body = turn.key.as_ref().and_then(|key| {
            let print = self.envelope.fingerprint(key, self.memory.stream())?;
            Some((key.id(), print))
        });
        AcceptedCommand {
            command: self.envelope.id,
            user: turn.user,
            body,
            revision: turn.after,
        }
    }

    /// Hands back the key of a creation that was accepted before, under another key.
    fn hand_back(&self, key: Option<SubjectKey>) {
        if let (Some(key), Command::Create(_)) = (key, &self.envelope.command) {
            self.stores.keys.hand_back(key);
        }
    }

    async fn execute_first(&self, turn: Turn) -> Result<Committed, CommandError> {
        // The command does not wait for the life span of its memory: both are appended at the same time.
        let life_span = self.memory.forget_after(self.kept_for);
        let (decided, ()) = tokio::join!(self.decide(turn), life_span);
        match decided {
            Err(CommandError::Superseded) => match self.memory.read().await? {
                Some(known) => self.follow(known).await,
                None => Err(CommandError::Conflict),
            },
            decided => decided,
        }
    }

    /// Returns the outcome of a command that was accepted before. If there is none, takes the command over.
    async fn follow(&self, mut known: Remembered) -> Result<Committed, CommandError> {
        for _ in 0..FOLLOWS {
            let key = self.verified_key(&known).await?;
            if let Some(outcome) = self.wait_for_outcome(&mut known).await? {
                return outcome;
            }
            let resumed = CommandEvent::Resumed(known.user);
            if let Some(head) = self.memory.append(known.head, resumed).await? {
                let turn = self.turn_of(&known, key, head);
                let life_span = self.memory.forget_after(self.kept_for);
                match tokio::join!(self.decide(turn), life_span).0 {
                    Err(CommandError::Superseded) => {}
                    decided => return decided,
                }
            }
            known = self.memory.read().await?.ok_or(CommandError::Conflict)?;
        }
        Err(CommandError::Conflict)
    }

    fn turn_of(&self, known: &Remembered, key: Option<SubjectKey>, head: u64) -> Turn {
        Turn {
            envelope: self.resumed(known),
            user: known.user,
            key,
            history: None,
            after: known.revision,
            head,
            taken_over: true,
        }
    }

    /// The envelope under the id of the accepted command.
    fn resumed(&self, known: &Remembered) -> Envelope {
        Envelope {
            id: known.command,
            ..self.envelope.clone()
        }
    }

    /// Decides the command as its owner, and stores the outcome if the command makes no event.
    async fn decide(&self, mut turn: Turn) -> Result<Committed, CommandError> {
        for _ in 0..DECISIONS {
            let (outcome, status) = self.run(&mut turn).await;
            let (reason, outcome) = match outcome {
                Ok(Ran::Committed(revision)) => return Ok(turn.committed(revision)),
                Ok(Ran::Unchanged(revision)) => {
                    (NoEvent::Unchanged(revision), Ok(turn.committed(revision)))
                }
                Ok(Ran::IdUsed) if turn.envelope.chosen_id.is_some() => (
                    NoEvent::Refused(UserError::Exists),
                    Err(UserError::Exists.into()),
                ),
                Ok(Ran::IdUsed) => {
                    self.take_another_id(&mut turn).await?;
                    continue;
                }
                Err(CommandError::Rejected(refusal)) => match turn.deleted_by_another(refusal) {
                    Some(revision) => {
                        let replayed = turn.taken_over;
                        let done = turn.committed(revision);
                        (
                            NoEvent::Unchanged(revision),
                            Ok(Committed { replayed, ..done }),
                        )
                    }
                    None => (NoEvent::Refused(refusal), Err(refusal.into())),
                },
                Err(error @ CommandError::PreconditionFailed) => {
                    (NoEvent::PreconditionFailed, Err(error))
                }
                Err(error) => return Err(error),
            };
            if turn.taken_over && !self.fence(&turn, &status).await? {
                continue;
            }
            let done = CommandEvent::Done(reason);
            return match self.memory.append(turn.head, done).await? {
                Some(_) => outcome,
                None => Err(CommandError::Superseded),
            };
        }
        Err(CommandError::Conflict)
    }

    /// Runs the command once. Also returns the user's status, as it was read last.
    async fn run(&self, turn: &mut Turn) -> (Result<Ran, CommandError>, UserStatus) {
        let ownership = Ownership {
            memory: &self.memory,
            head: turn.head,
            after: turn.after,
        };
        let history = turn.history.take();
        let execution = Execution::new(self.stores, turn.user, &turn.envelope);
        let execution = execution.owned(ownership, turn.key.clone());
        let mut execution = execution.after_reading(history);
        let plan = Plan::of(&turn.envelope.command, self.secret);
        let ran = execution.run(plan).await;
        (ran, execution.status())
    }

    /// Stores a new id for the user before it is used.
    async fn take_another_id(&self, turn: &mut Turn) -> Result<(), CommandError> {
        turn.user = self.ids.next().await?;
        let resumed = CommandEvent::Resumed(turn.user);
        let head = self.memory.append(turn.head, resumed).await?;
        turn.head = head.ok_or(CommandError::Superseded)?;
        Ok(())
    }

    /// Makes sure that no former owner can commit the command any more. Returns false if the user's stream has changed since it
    /// was read, so that the command must be decided anew.
    async fn fence(&self, turn: &Turn, status: &UserStatus) -> Result<bool, CommandError> {
        let (fence, expected) = match (&turn.envelope.command, status) {
            (Command::Create(_), UserStatus::Absent) => {
                (Fence::RegistrationAbandoned, Expected::NoStream)
            }
            // No creation can be committed under an id that was used.
            (Command::Create(_), _) => return Ok(true),
            (_, UserStatus::Active { revision, .. }) => {
                (Fence::RenameFenced, Expected::Revision(*revision))
            }
            // Nobody can commit anything for such a user.
            _ => return Ok(true),
        };
        let fence = vec![fence.encode(Uuid::new_v4(), turn.user)];
        let stream = user_stream(turn.user);
        match self.stores.events.append(&stream, expected, fence).await {
            Ok(_) => Ok(true),
            Err(AppendError::Conflict { .. } | AppendError::StreamDeleted) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// The revision of an active user's stream.
fn revision_if_active(history: &UserHistory) -> Option<u64> {
    match history.status() {
        UserStatus::Active { revision, .. } => Some(revision),
        UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
    }
}

impl Turn {
    /// The revision before a deletion that was accepted while the user was active, if another command deleted the user since.
    /// Such a deletion is done: its own event may be gone with the user's stream, so nothing else can be said of it later.
    fn deleted_by_another(&self, refusal: UserError) -> Option<u64> {
        let is_deletion = matches!(self.envelope.command, Command::Delete(_));
        self.after
            .filter(|_| is_deletion && refusal == UserError::Erased)
    }

    fn committed(&self, revision: u64) -> Committed {
        Committed {
            user: self.user,
            revision,
            replayed: false,
        }
    }
}
