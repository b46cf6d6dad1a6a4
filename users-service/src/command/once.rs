//! The execution of a command that was sent with an idempotency key: once, whoever repeats it, and wherever a process dies. It
//! performs the steps of a [`CommandAttempt`], which decides whose turn it is, and reports their results to it.

use super::attempt::{AttemptLimits, AttemptSeen, AttemptStep, CommandAttempt, Decided};
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
use std::time::Duration;
use tokio::time::Instant;
use uuid::Uuid;

mod outcome;

/// The bounds of one attempt.
const LIMITS: AttemptLimits = AttemptLimits {
    follows: 4,
    decisions: 8,
};

/// The execution of one command that was sent with a key.
pub(super) struct Once<'a> {
    stores: &'a Stores,
    secret: &'a UsernameSecret,
    ids: &'a IdSource,
    memory: CommandMemory,
    kept_for: Duration,
    /// The command. It has the id under which it was accepted first.
    envelope: Envelope,
    /// The key of the user.
    key: Option<SubjectKey>,
    /// The user's history, if it was read before the command was accepted.
    history: Option<UserHistory>,
    /// The revision of the user's stream before the command. `None` if the user was not active.
    after: Option<u64>,
    /// The id of the command whose body was compared with this one.
    recognised: Option<Uuid>,
    /// Whether this process has become the owner of the memory, and has not limited its life span yet.
    must_limit_memory: bool,
    /// When the patience with another owner ends.
    patience: Option<Instant>,
}

impl<'a> Once<'a> {
    pub(super) fn new(
        (stores, secret, ids): (&'a Stores, &'a UsernameSecret, &'a IdSource),
        (envelope, stream): (&Envelope, String),
        kept_for: Duration,
    ) -> Self {
        Self {
            stores,
            secret,
            ids,
            memory: CommandMemory::new(stores.events.clone(), stream),
            kept_for,
            envelope: envelope.clone(),
            key: None,
            history: None,
            after: None,
            recognised: None,
            must_limit_memory: false,
            patience: None,
        }
    }

    /// Executes the command, or returns the outcome of its first execution.
    pub(super) async fn execute(mut self) -> Result<Committed, CommandError> {
        let mut attempt = CommandAttempt::new(self.envelope.command.kind(), LIMITS);
        loop {
            let step = attempt.next();
            if let AttemptStep::Done(outcome) = step {
                return outcome::answer(outcome);
            }
            let seen = self.perform(step).await?;
            attempt.observe(seen);
        }
    }

    async fn perform(&mut self, step: AttemptStep) -> Result<AttemptSeen, CommandError> {
        Ok(match step {
            AttemptStep::Accept => self.accept().await?,
            AttemptStep::ReadMemory => match self.memory.read().await? {
                Some(remembered) => self.recognise(&remembered).await?,
                None => AttemptSeen::Forgotten,
            },
            AttemptStep::LookForEvent(user) => self.look_for_event(user).await?,
            AttemptStep::Wait => self.wait().await,
            AttemptStep::TakeOver(known) => {
                self.must_limit_memory = true;
                self.go_on(known.user, known.head).await?
            }
            AttemptStep::TakeAnotherId(head) => {
                let user = self.ids.next().await?;
                self.go_on(user, head).await?
            }
            AttemptStep::Run {
                user,
                head,
                read_first,
            } => AttemptSeen::Ran(self.run(user, head, read_first).await?),
            AttemptStep::Fence {
                user,
                fence,
                expected,
            } => self.fence(user, fence, expected).await?,
            AttemptStep::Remember(reason, head) => {
                let done = CommandEvent::Done(reason);
                let head = self.memory.append(head, done).await?;
                head.map_or(AttemptSeen::Refused, |_| AttemptSeen::Appended)
            }
            AttemptStep::Done(_) => AttemptSeen::Forgotten,
        })
    }

    async fn accept(&mut self) -> Result<AttemptSeen, CommandError> {
        let user = match self.prepare().await {
            Ok(user) => user,
            // Without a new id, a creation that was executed before can still be answered.
            Err(error) => {
                let remembered = self.memory.read().await?.ok_or(error)?;
                return self.recognise(&remembered).await;
            }
        };
        let origin = self.envelope.origin_of_command();
        let settled = self.settled();
        let accepted = self.accepted(user);
        match self.memory.accept(accepted, settled, &origin).await? {
            Acceptance::New(head) => {
                if let Some(reason) = settled {
                    self.memory.forget_after(self.kept_for).await;
                    return Ok(AttemptSeen::Settled(user, reason));
                }
                self.must_limit_memory = true;
                Ok(AttemptSeen::Turn(user, head))
            }
            Acceptance::Known(remembered) => {
                self.hand_back_key();
                self.recognise(&remembered).await
            }
        }
    }

    /// The outcome of a command for a user who is erased already. Whoever took it over after the death of this process could not
    /// know whether this process had executed it.
    fn settled(&self) -> Option<NoEvent> {
        let history = self.history.as_ref()?;
        let is_erased = history.status() == UserStatus::Erased;
        is_erased.then_some(NoEvent::Refused(UserError::Erased))
    }

    /// Prepares the first execution: the id and the key of a new user, or the history and the key of an existing one.
    async fn prepare(&mut self) -> Result<UserId, CommandError> {
        let histories = &self.stores.histories;
        let (user, history) = match &self.envelope.command {
            Command::Create(_) => {
                let user = match self.envelope.chosen_id {
                    Some(chosen) => chosen,
                    None => self.ids.next().await?,
                };
                self.key = Some(self.stores.keys.fresh().await?);
                return Ok(user);
            }
            Command::Patch(user, _) => {
                let history = histories.read(*user).await?;
                if let Activity::Active(key) = history.activity(&self.stores.keys).await? {
                    self.key = Some(key);
                }
                (*user, history)
            }
            Command::Delete(user) => {
                let history = histories.read_to_erase(*user).await?;
                if history.status() == UserStatus::Erased {
                    self.stores.complete_erasure(*user, &history).await?;
                }
                (*user, history)
            }
        };
        self.after = revision_if_active(&history);
        self.history = Some(history);
        Ok(user)
    }

    fn accepted(&self, user: UserId) -> AcceptedCommand {
        let body = self.key.as_ref().and_then(|key| {
            let print = self.envelope.fingerprint(key, self.memory.stream())?;
            Some((key.id(), print))
        });
        AcceptedCommand {
            command: self.envelope.id,
            user,
            body,
            revision: self.after,
        }
    }

    /// Hands back the key of a creation that was accepted before, under another key.
    fn hand_back_key(&mut self) {
        if let (Some(key), Command::Create(_)) = (self.key.take(), &self.envelope.command) {
            self.stores.keys.hand_back(key);
        }
    }

    /// Goes on with a command that was accepted before, if its body was the same.
    async fn recognise(&mut self, remembered: &Remembered) -> Result<AttemptSeen, CommandError> {
        if self.recognised != Some(remembered.command) {
            self.key = self.verified_key(remembered).await?;
            self.recognised = Some(remembered.command);
        }
        self.envelope.id = remembered.command;
        self.history = None;
        self.after = remembered.revision;
        Ok(AttemptSeen::Known(remembered.known()))
    }

    /// Appends to the memory that the command goes on under this id, and so becomes its owner.
    async fn go_on(&self, user: UserId, head: u64) -> Result<AttemptSeen, CommandError> {
        let resumed = CommandEvent::Resumed(user);
        let head = self.memory.append(head, resumed).await?;
        Ok(head.map_or(AttemptSeen::Refused, |head| AttemptSeen::Turn(user, head)))
    }

    async fn run(
        &mut self,
        user: UserId,
        head: u64,
        read_first: bool,
    ) -> Result<Decided, CommandError> {
        let must_limit_memory = std::mem::take(&mut self.must_limit_memory);
        let history = self.history.take();
        let this = &*self;
        // The command does not wait for the life span of its memory: both are appended at the same time.
        let life_span = async {
            if must_limit_memory {
                this.memory.forget_after(this.kept_for).await;
            }
        };
        let ownership = Ownership {
            memory: &this.memory,
            head,
            after: this.after,
        };
        let execution = Execution::new(this.stores, user, &this.envelope);
        let execution = execution.owned(ownership, this.key.clone());
        let mut execution = execution.after_reading(history).reading_first(read_first);
        let plan = Plan::of(&this.envelope.command, this.secret);
        let (ran, ()) = tokio::join!(execution.run(plan), life_span);
        let without_event = |reason| Decided::WithoutEvent(reason, execution.status());
        Ok(match ran {
            Ok(Ran::Committed(revision)) => Decided::Committed(revision),
            Ok(Ran::Unchanged(revision)) => without_event(NoEvent::Unchanged(revision)),
            Ok(Ran::IdUsed) if this.envelope.chosen_id.is_some() => {
                without_event(NoEvent::Refused(UserError::Exists))
            }
            Ok(Ran::IdUsed) => Decided::IdUsed,
            Err(CommandError::Rejected(refusal)) => {
                without_event(match this.deleted_by_another(refusal) {
                    Some(revision) => NoEvent::Unchanged(revision),
                    None => NoEvent::Refused(refusal),
                })
            }
            Err(CommandError::PreconditionFailed) => without_event(NoEvent::PreconditionFailed),
            Err(CommandError::Superseded) => Decided::Superseded,
            Err(error) => return Err(error),
        })
    }

    /// The revision before a deletion that was accepted while the user was active, if another command deleted the user since.
    /// Such a deletion is done: its own event may be gone with the user's stream, so nothing else can be said of it later.
    fn deleted_by_another(&self, refusal: UserError) -> Option<u64> {
        let is_deletion = matches!(self.envelope.command, Command::Delete(_));
        self.after
            .filter(|_| is_deletion && refusal == UserError::Erased)
    }

    async fn fence(
        &self,
        user: UserId,
        fence: Fence,
        expected: Option<u64>,
    ) -> Result<AttemptSeen, CommandError> {
        let fence = vec![fence.encode(Uuid::new_v4(), user)];
        let stream = user_stream(user);
        let appended = self.stores.events.append_at(&stream, expected, fence);
        let appended = appended.await?;
        Ok(appended.map_or(AttemptSeen::Refused, |_| AttemptSeen::Appended))
    }
}

/// The revision of an active user's stream.
fn revision_if_active(history: &UserHistory) -> Option<u64> {
    match history.status() {
        UserStatus::Active { revision, .. } => Some(revision),
        UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
    }
}
