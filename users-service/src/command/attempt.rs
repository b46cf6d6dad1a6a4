//! One attempt to execute a command that was sent with an idempotency key: a step function that decides whose turn it is.
//!
//! The command is first accepted in a stream of its own, its memory. The writer of the memory's last event owns the command.
//! A repeated command waits for the outcome; if none comes, it takes the command over by appending to the memory.
//!
//! Pure: this module knows nothing of storage, time or threads. The explorer in the tests drives the same code as
//! [`Once`](super::once::Once).
//!
//! Invariants:
//! - A command with an event has its outcome in the user's stream, and there only. The event's id is derived from the command's
//!   id, so no two processes store it twice.
//! - A command without an event has its outcome in the memory, and only its owner writes that. A former owner may still be
//!   about to commit, so an owner who took over fences the user's stream first.
//! - A former owner whose commit was refused reads the user's stream, then finds out that it is not the owner, and stops.
//! - After an erasure nobody can know whether a former owner had committed. So an owner who took over stores no refusal then: a
//!   deletion is done, and of anything else nothing is said.
//! - Unavailability, conflicts and time-outs are no outcome. Nothing about them is stored.

use super::envelope::CommandKind;
use super::reservation::UserStatus;
use crate::domain::UserId;
use crate::stored_event::{Fence, NoEvent};

#[cfg(test)]
mod tests;

/// What the memory says about a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KnownCommand {
    /// The user under whose id the command is executed.
    pub(super) user: UserId,
    /// The revision of the memory's last event.
    pub(super) head: u64,
    /// The reason why the command made no event, if that is certain.
    pub(super) done: Option<NoEvent>,
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum AttemptStep {
    /// Append the command to its memory, expecting that the memory does not know it. The result is [`AttemptSeen::Turn`],
    /// [`AttemptSeen::Settled`] or [`AttemptSeen::Known`].
    Accept,
    /// Read the memory. The result is [`AttemptSeen::Known`] or [`AttemptSeen::Forgotten`].
    ReadMemory,
    /// Look for the command's event in the user's stream. The result is [`AttemptSeen::User`].
    LookForEvent(UserId),
    /// Wait a moment for the owner. The result is [`AttemptSeen::Waited`], or [`AttemptSeen::PatienceOver`] after about a
    /// second. This saves work; safety does not depend on it.
    Wait,
    /// Append to the memory that the command goes on under this id, expecting the revision. The result is
    /// [`AttemptSeen::Turn`] or [`AttemptSeen::Refused`].
    TakeOver(KnownCommand),
    /// Get an id for the user that nobody has used, and append it to the memory, expecting this revision. The result is
    /// [`AttemptSeen::Turn`] or [`AttemptSeen::Refused`].
    TakeAnotherId(u64),
    /// Decide the command and append its event, as the owner since this revision of the memory. The result is
    /// [`AttemptSeen::Ran`].
    Run {
        /// The user.
        user: UserId,
        /// The revision of the memory.
        head: u64,
        /// Whether another process may have executed the command under this id, so that even the stream of a new user is read.
        read_first: bool,
    },
    /// Append a fence to the user's stream. The result is [`AttemptSeen::Appended`] or [`AttemptSeen::Refused`].
    Fence {
        /// The user.
        user: UserId,
        /// The fence.
        fence: Fence,
        /// The revision of the user's stream.
        expected: Option<u64>,
    },
    /// Append to the memory that the command made no event, expecting this revision. The result is [`AttemptSeen::Appended`]
    /// or [`AttemptSeen::Refused`].
    Remember(NoEvent, u64),
    /// The attempt has ended.
    Done(AttemptOutcome),
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum AttemptSeen {
    /// This process owns the command, for this user and at this revision of the memory.
    Turn(UserId, u64),
    /// The command was accepted together with its outcome, because it makes no event for this reason, whatever happens.
    Settled(UserId, NoEvent),
    /// The command was accepted before.
    Known(KnownCommand),
    /// The memory does not know the command any more.
    Forgotten,
    /// The user's stream was read.
    User {
        /// The status of the user.
        status: UserStatus,
        /// The revision of the command's event, if the stream has it.
        found: Option<u64>,
    },
    /// The owner had a moment.
    Waited,
    /// The owner had time enough.
    PatienceOver,
    /// The command was decided.
    Ran(Decided),
    /// The event is stored.
    Appended,
    /// The stream did not have the expected revision. Nothing was stored.
    Refused,
}

/// The end of one decision.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Decided {
    /// The command's event is stored at this revision.
    Committed(u64),
    /// The command makes no event, for this reason. The user's status is as it was read last.
    WithoutEvent(NoEvent, UserStatus),
    /// The id of the new user is already used or abandoned.
    IdUsed,
    /// Another process owns the command.
    Superseded,
}

/// The outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum AttemptOutcome {
    /// The command's event is stored.
    Committed {
        /// The user.
        user: UserId,
        /// The event's revision.
        revision: u64,
        /// Whether another attempt stored it.
        replayed: bool,
    },
    /// The command made no event, for this reason.
    WithoutEvent {
        /// The user.
        user: UserId,
        /// The reason.
        reason: NoEvent,
        /// Whether another attempt decided it.
        replayed: bool,
    },
    /// The user of the command was erased.
    Gone,
    /// There is no outcome yet. The command may be sent again.
    Contended,
}

/// The bounds of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct AttemptLimits {
    /// How often it follows another owner.
    pub(super) follows: u32,
    /// How often it decides the command anew.
    pub(super) decisions: u32,
}

/// The progress of one attempt.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct CommandAttempt {
    kind: CommandKind,
    limits: AttemptLimits,
    decisions_left: u32,
    /// Whether another process may have been the owner before.
    taken_over: bool,
    phase: AttemptPhase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum AttemptPhase {
    Accepting,
    ReadingMemory,
    Looking(KnownCommand),
    Waiting(KnownCommand),
    TakingOver(KnownCommand),
    TakingAnotherId(u64),
    Running(Turn),
    Fencing(Turn, NoEvent, (Fence, Option<u64>)),
    Remembering(Turn, NoEvent),
    Over(AttemptOutcome),
}

/// The ownership of the command, for one user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Turn {
    user: UserId,
    head: u64,
    read_first: bool,
}

const GONE: AttemptPhase = AttemptPhase::Over(AttemptOutcome::Gone);

impl CommandAttempt {
    /// Starts an attempt.
    pub(super) fn new(kind: CommandKind, limits: AttemptLimits) -> Self {
        Self {
            kind,
            limits,
            decisions_left: limits.decisions,
            taken_over: false,
            phase: AttemptPhase::Accepting,
        }
    }

    /// The next step. It stays the same until [`observe`](Self::observe) gets its result.
    pub(super) fn next(&self) -> AttemptStep {
        match &self.phase {
            AttemptPhase::Accepting => AttemptStep::Accept,
            AttemptPhase::ReadingMemory => AttemptStep::ReadMemory,
            AttemptPhase::Looking(known) => AttemptStep::LookForEvent(known.user),
            AttemptPhase::Waiting(_) => AttemptStep::Wait,
            AttemptPhase::TakingOver(known) => AttemptStep::TakeOver(*known),
            AttemptPhase::TakingAnotherId(head) => AttemptStep::TakeAnotherId(*head),
            AttemptPhase::Running(turn) => AttemptStep::Run {
                user: turn.user,
                head: turn.head,
                read_first: turn.read_first,
            },
            AttemptPhase::Fencing(turn, _, (fence, expected)) => AttemptStep::Fence {
                user: turn.user,
                fence: *fence,
                expected: *expected,
            },
            AttemptPhase::Remembering(turn, reason) => AttemptStep::Remember(*reason, turn.head),
            AttemptPhase::Over(outcome) => AttemptStep::Done(*outcome),
        }
    }

    /// Proceeds with the result of the step.
    pub(super) fn observe(&mut self, seen: AttemptSeen) {
        let phase = std::mem::replace(&mut self.phase, AttemptPhase::ReadingMemory);
        self.phase = match (phase, seen) {
            (
                AttemptPhase::Accepting | AttemptPhase::TakingAnotherId(_),
                AttemptSeen::Turn(user, head),
            ) => Turn::of_nobody_else(user, head),
            (AttemptPhase::Accepting, AttemptSeen::Settled(user, reason)) => {
                self.ended(user, reason, false)
            }
            (AttemptPhase::Accepting | AttemptPhase::ReadingMemory, AttemptSeen::Known(known)) => {
                self.knowing(known)
            }
            (AttemptPhase::Looking(known), AttemptSeen::User { status, found }) => {
                self.outcome(known, &status, found)
            }
            (AttemptPhase::Waiting(_), AttemptSeen::Waited) => AttemptPhase::ReadingMemory,
            (AttemptPhase::Waiting(known), AttemptSeen::PatienceOver) => {
                AttemptPhase::TakingOver(known)
            }
            (AttemptPhase::TakingOver(_), AttemptSeen::Turn(user, head)) => {
                self.taken_over = true;
                self.decisions_left = self.limits.decisions;
                Turn::after_others(user, head)
            }
            (AttemptPhase::Running(turn), AttemptSeen::Ran(decided)) => self.decided(turn, decided),
            (AttemptPhase::Fencing(turn, reason, _), AttemptSeen::Appended) => {
                AttemptPhase::Remembering(turn, reason)
            }
            (AttemptPhase::Fencing(turn, ..), AttemptSeen::Refused) => {
                self.decide_again(Turn::after_others(turn.user, turn.head))
            }
            (AttemptPhase::Remembering(turn, reason), AttemptSeen::Appended) => {
                self.ended(turn.user, reason, false)
            }
            (AttemptPhase::Over(outcome), _) => AttemptPhase::Over(outcome),
            (_, AttemptSeen::Forgotten) => AttemptPhase::Over(AttemptOutcome::Contended),
            // Another process appended to the memory. A result that does not belong to the step is treated alike.
            _ => self.follow(),
        };
    }

    fn knowing(&self, known: KnownCommand) -> AttemptPhase {
        match known.done {
            Some(reason) => self.ended(known.user, reason, true),
            None => AttemptPhase::Looking(known),
        }
    }

    /// The end of a command without an event of its own. A deletion that had nothing to do is done: another command deleted the
    /// user.
    fn ended(&self, user: UserId, reason: NoEvent, replayed: bool) -> AttemptPhase {
        AttemptPhase::Over(match (self.kind, reason) {
            (CommandKind::Delete, NoEvent::Unchanged(revision)) => AttemptOutcome::Committed {
                user,
                revision,
                replayed: replayed || self.taken_over,
            },
            _ => AttemptOutcome::WithoutEvent {
                user,
                reason,
                replayed,
            },
        })
    }

    /// The outcome of an accepted command, if its user's stream shows one.
    fn outcome(
        &self,
        known: KnownCommand,
        status: &UserStatus,
        found: Option<u64>,
    ) -> AttemptPhase {
        match (self.kind, status, found) {
            (CommandKind::Create | CommandKind::Patch, UserStatus::Erased, _) => GONE,
            (_, _, Some(revision)) => AttemptPhase::Over(AttemptOutcome::Committed {
                user: known.user,
                revision,
                replayed: true,
            }),
            (_, _, None) => AttemptPhase::Waiting(known),
        }
    }

    fn decided(&mut self, turn: Turn, decided: Decided) -> AttemptPhase {
        match decided {
            Decided::Committed(revision) => AttemptPhase::Over(AttemptOutcome::Committed {
                user: turn.user,
                revision,
                replayed: false,
            }),
            Decided::WithoutEvent(reason, UserStatus::Erased) if self.taken_over => {
                self.decided_after_erasure(turn, reason)
            }
            Decided::WithoutEvent(reason, status) => match self.fence(&status) {
                Some(fence) if self.taken_over => AttemptPhase::Fencing(turn, reason, fence),
                _ => AttemptPhase::Remembering(turn, reason),
            },
            Decided::IdUsed => self.decide_again(AttemptPhase::TakingAnotherId(turn.head)),
            Decided::Superseded => self.follow(),
        }
    }

    /// The end of a command that was taken over after its user was erased: nobody can know whether a former owner had executed
    /// it. A deletion counts as done. Of anything else nothing is said.
    fn decided_after_erasure(&self, turn: Turn, reason: NoEvent) -> AttemptPhase {
        match (self.kind, reason) {
            (CommandKind::Create | CommandKind::Patch, _) => GONE,
            (CommandKind::Delete, NoEvent::Unchanged(_)) => AttemptPhase::Remembering(turn, reason),
            (CommandKind::Delete, NoEvent::Refused(_) | NoEvent::PreconditionFailed) => {
                AttemptPhase::Remembering(turn, NoEvent::Unchanged(0))
            }
        }
    }

    /// The fence after which no former owner can commit the command. `None` if nobody can commit anything for such a user.
    fn fence(&self, status: &UserStatus) -> Option<(Fence, Option<u64>)> {
        match (self.kind, status) {
            (CommandKind::Create, UserStatus::Absent) => Some((Fence::RegistrationAbandoned, None)),
            (CommandKind::Patch | CommandKind::Delete, UserStatus::Active { revision, .. }) => {
                Some((Fence::RenameFenced, Some(*revision)))
            }
            // No creation can be committed under an id that was used, and nothing for a user who is not active.
            (CommandKind::Create, UserStatus::Active { .. })
            | (_, UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased) => None,
        }
    }

    fn decide_again(&mut self, phase: AttemptPhase) -> AttemptPhase {
        match self.decisions_left.checked_sub(1) {
            Some(left) => {
                self.decisions_left = left;
                phase
            }
            None => AttemptPhase::Over(AttemptOutcome::Contended),
        }
    }

    fn follow(&mut self) -> AttemptPhase {
        match self.limits.follows.checked_sub(1) {
            Some(left) => {
                self.limits.follows = left;
                AttemptPhase::ReadingMemory
            }
            None => AttemptPhase::Over(AttemptOutcome::Contended),
        }
    }
}

impl Turn {
    /// The phase of an owner whose user's id no other process has used for the command.
    fn of_nobody_else(user: UserId, head: u64) -> AttemptPhase {
        AttemptPhase::Running(Self {
            user,
            head,
            read_first: false,
        })
    }

    /// The phase of an owner after others may have executed the command under the same id.
    fn after_others(user: UserId, head: u64) -> AttemptPhase {
        AttemptPhase::Running(Self {
            user,
            head,
            read_first: true,
        })
    }
}
