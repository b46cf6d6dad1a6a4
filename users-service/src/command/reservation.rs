//! The protocol of a fenced reservation of a username: a step function that decides the next read or append from the result
//! of the last one.
//!
//! Pure: this module knows nothing of storage, time or threads. The explorer in the tests drives the same code as
//! [`CommandHandler`](super::handler::CommandHandler).
//!
//! Invariants:
//! - Two active users never hold the same name, whatever stalls, stops or races.
//! - The revision that a commit expects was read before the claim, so a fence that is set in between makes the commit fail.
//! - A claim is always a new event, even after an earlier claim of the same user. So a rival's takeover fails.
//! - A claim whose commit was refused is not released, because that could free the name of an active user.
//! - Only the claim that was committed is released. A claim holds the name only while its owner's stream names it.

use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::Fence;

#[cfg(test)]
mod explorer;

/// The effect that a command must have on a user's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Goal {
    /// A new user gets the name.
    Create {
        /// The name.
        name: ReservationName,
        /// Whether the reservation is read before it is claimed. This is set for a name that may be held under a former
        /// reservation. Any other name is claimed at once, and its reservation is read only after a refusal.
        read_first: bool,
    },
    /// An existing user gets the name, or keeps it.
    Hold {
        /// The name.
        name: ReservationName,
        /// The reservation that this spelling had before Unicode folded more letters. A user who holds it keeps it.
        former_name: Option<ReservationName>,
    },
    /// The user keeps the current name.
    Keep,
    /// The user is deleted.
    Delete,
}

/// The status of a user, which the stream shows without any key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserStatus {
    /// The stream has no event.
    Absent,
    /// The id was abandoned before a user was created.
    Abandoned,
    /// The user exists.
    Active {
        /// The claim in the last event that has one.
        claim: Claim,
        /// The revision of the last event of any kind.
        revision: u64,
    },
    /// The user was deleted.
    Erased,
}

/// The holder of a name according to the last event of its reservation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// The name was released at this revision, or was never claimed (`None`).
    Nobody(Option<u64>),
    /// The user claimed the name at this revision.
    Claimed(UserId, u64),
}

/// The next step. `expected` is the revision that the stream must have, or `None` for a stream without events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read a user's stream. The result is [`Seen::User`]. If the stream is this command's own and already has the command's
    /// event, the result is [`Seen::AlreadyCommitted`].
    ReadUser(UserId),
    /// Make sure that no other process has taken over the command, after the user's own stream was read. In this order, because
    /// another process may have fenced the stream in order to decide the command differently. The result is [`Seen::Owned`] or
    /// [`Seen::Superseded`].
    CheckOwner,
    /// Read the last event of a reservation. The result is [`Seen::Reservation`] or [`Seen::HeldUnderFormerName`].
    ReadReservation(ReservationName),
    /// Wait about 50 ms so that a rival can finish. This saves work; safety does not depend on it. The result is
    /// [`Seen::Waited`].
    Wait,
    /// Append a claim of this user. The result is [`Seen::Appended`] or [`Seen::Refused`].
    Claim {
        /// The claimed reservation.
        reservation: ReservationName,
        /// The reservation's revision.
        expected: Option<u64>,
        /// The reservation that the user holds now, and gives up if the claim is committed. The claim names it, so that the sweep
        /// looks at it even if the command never releases it.
        leaves: Option<ReservationName>,
    },
    /// Append a fence to a rival's stream. The result is [`Seen::Appended`] or [`Seen::Refused`].
    Fence {
        /// The rival.
        user: UserId,
        /// The fence.
        fence: Fence,
        /// The revision of the rival's stream.
        expected: Option<u64>,
    },
    /// Decide the command on the last read of the user's stream, and append its events. The result is [`Seen::Appended`],
    /// [`Seen::Refused`] or [`Seen::Unchanged`].
    Commit {
        /// The revision of the user's stream.
        expected: Option<u64>,
        /// The new claim. `None` if the user keeps the current one.
        claim: Option<Claim>,
    },
    /// Append a release that expects the revision of this claim. The result is [`Seen::Appended`] or [`Seen::Refused`]; a
    /// refused release is not retried.
    Release(Claim),
    /// The command has ended.
    Done(ReservationOutcome),
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen {
    /// The user's stream was read.
    User(UserStatus),
    /// The user's stream has the event of this command: another process executed the same command.
    AlreadyCommitted,
    /// The command has the same owner as before.
    Owned,
    /// Another process owns the command.
    Superseded,
    /// The reservation's last event was read.
    Reservation(Holder),
    /// Another user holds the name under a reservation that it had before Unicode folded more letters.
    HeldUnderFormerName,
    /// The wait is over.
    Waited,
    /// The events are stored, the last one at this revision.
    Appended(u64),
    /// The stream did not have the expected revision. Nothing was stored.
    Refused,
    /// The user is already as requested, so there was nothing to store.
    Unchanged,
}

/// The outcome of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationOutcome {
    /// The command's events are stored.
    Committed,
    /// Another user has the name.
    Taken,
    /// The id of the new user is already used or abandoned. A new id is needed.
    IdUsed,
    /// There were too many conflicts with other commands.
    Contended,
    /// Another process owns the command.
    Superseded,
    /// Another process created the new user, who has been erased since. Nobody is created anew.
    Gone,
}

/// The progress of one command.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reservation {
    me: UserId,
    goal: Goal,
    refusals_left: u32,
    /// The user's status, read before the claim.
    base: UserStatus,
    phase: Phase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Phase {
    ReadingUser,
    CheckingOwner(UserStatus),
    ReadingReservation(ReservationName),
    ReadingRival(Rival),
    Waiting(Rival),
    Fencing(Rival, Fence, Option<u64>),
    ClaimingUnread(ReservationName),
    Claiming(ReservationName, Option<u64>),
    Committing(Option<Claim>),
    Releasing(Claim),
    Over(ReservationOutcome),
}

/// Another user who claimed the name earlier.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rival {
    user: UserId,
    claim: Claim,
    waited_for: bool,
}

impl Reservation {
    /// Starts a command. After more than `refusals` refused appends, it ends as [`ReservationOutcome::Contended`].
    ///
    /// The stream of a new user is not read first, because the commit expects it to be absent.
    #[must_use]
    pub fn new(me: UserId, goal: Goal, refusals: u32) -> Self {
        let phase = match &goal {
            Goal::Create { name, read_first } => Phase::creation(name, *read_first),
            Goal::Hold { .. } | Goal::Keep | Goal::Delete => Phase::ReadingUser,
        };
        Self {
            me,
            goal,
            refusals_left: refusals,
            base: UserStatus::Absent,
            phase,
        }
    }

    /// Starts with a read of the user's stream, also for a new user: another process may have executed the command.
    #[must_use]
    pub fn reading_first(self) -> Self {
        Self {
            phase: Phase::ReadingUser,
            ..self
        }
    }

    /// Starts with this status, which was read before the command.
    #[must_use]
    pub fn after_reading(mut self, status: UserStatus) -> Self {
        self.phase = self.start(status);
        self
    }

    /// The next step. It stays the same until [`observe`](Self::observe) gets its result.
    #[must_use]
    pub fn next(&self) -> Step {
        match &self.phase {
            Phase::ReadingUser => Step::ReadUser(self.me),
            Phase::CheckingOwner(_) => Step::CheckOwner,
            Phase::ReadingReservation(name) => Step::ReadReservation(name.clone()),
            Phase::ReadingRival(rival) => Step::ReadUser(rival.user),
            Phase::Waiting(_) => Step::Wait,
            Phase::Fencing(rival, fence, expected) => Step::Fence {
                user: rival.user,
                fence: *fence,
                expected: *expected,
            },
            Phase::ClaimingUnread(reservation) => self.claim(reservation, None),
            Phase::Claiming(reservation, expected) => self.claim(reservation, *expected),
            Phase::Committing(claim) => Step::Commit {
                expected: self.base.revision(),
                claim: claim.clone(),
            },
            Phase::Releasing(claim) => Step::Release(claim.clone()),
            Phase::Over(outcome) => Step::Done(*outcome),
        }
    }

    /// Proceeds with the result of the step.
    pub fn observe(&mut self, seen: Seen) {
        let phase = std::mem::replace(&mut self.phase, Phase::ReadingUser);
        self.phase = match (phase, seen) {
            (Phase::ReadingUser, Seen::User(status)) => Phase::CheckingOwner(status),
            (Phase::CheckingOwner(status), Seen::Owned) => self.start(status),
            (Phase::CheckingOwner(_), Seen::Superseded) => {
                Phase::Over(ReservationOutcome::Superseded)
            }
            (Phase::ReadingReservation(name), Seen::Reservation(holder)) => {
                self.claim_or_check_rival(name, holder)
            }
            (Phase::ReadingReservation(_), Seen::HeldUnderFormerName) => {
                Phase::Over(ReservationOutcome::Taken)
            }
            (Phase::ReadingRival(rival), Seen::User(status)) => rival.judge(&status),
            (Phase::Waiting(rival), Seen::Waited) => Phase::ReadingRival(rival.after_waiting()),
            (Phase::Fencing(rival, ..), Seen::Appended(_)) => rival.take_over(),
            (Phase::Fencing(rival, ..), Seen::Refused) => self.retry(Phase::ReadingRival(rival)),
            (
                Phase::ClaimingUnread(reservation) | Phase::Claiming(reservation, _),
                Seen::Appended(revision),
            ) => Phase::Committing(Some(Claim {
                reservation,
                revision,
            })),
            // The name was claimed before, and may be free again. This is not a conflict with a rival.
            (Phase::ClaimingUnread(name), Seen::Refused) => Phase::ReadingReservation(name),
            (Phase::Claiming(name, _), Seen::Refused) => {
                self.retry(Phase::ReadingReservation(name))
            }
            (Phase::Committing(claim), Seen::Appended(_)) => {
                self.release_previous_claim(claim.is_some())
            }
            (Phase::ReadingUser, Seen::AlreadyCommitted)
            | (Phase::Committing(_), Seen::Unchanged)
            | (Phase::Releasing(_), Seen::Appended(_) | Seen::Refused) => {
                Phase::Over(ReservationOutcome::Committed)
            }
            (Phase::Over(outcome), _) => Phase::Over(outcome),
            // A refused commit starts again. So does a result that does not belong to the step.
            _ => self.retry(Phase::ReadingUser),
        };
    }

    fn claim(&self, reservation: &ReservationName, expected: Option<u64>) -> Step {
        let leaves = match &self.base {
            UserStatus::Active { claim, .. } => Some(claim.reservation.clone()),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        };
        Step::Claim {
            reservation: reservation.clone(),
            expected,
            leaves,
        }
    }

    fn start(&mut self, status: UserStatus) -> Phase {
        self.base = status;
        match (&self.goal, &self.base) {
            (Goal::Create { name, .. }, UserStatus::Absent) => {
                Phase::ReadingReservation(name.clone())
            }
            (Goal::Create { .. }, UserStatus::Erased) => Phase::Over(ReservationOutcome::Gone),
            (Goal::Create { .. }, UserStatus::Abandoned | UserStatus::Active { .. }) => {
                Phase::Over(ReservationOutcome::IdUsed)
            }
            (Goal::Hold { name, former_name }, UserStatus::Active { claim, .. })
                if claim.reservation != *name
                    && Some(&claim.reservation) != former_name.as_ref() =>
            {
                Phase::ReadingReservation(name.clone())
            }
            // The name stays, or the user is not active. The decider handles both cases.
            (Goal::Hold { .. } | Goal::Keep | Goal::Delete, _) => Phase::Committing(None),
        }
    }

    fn claim_or_check_rival(&self, name: ReservationName, holder: Holder) -> Phase {
        match holder {
            Holder::Nobody(expected) => Phase::Claiming(name, expected),
            Holder::Claimed(user, revision) if user == self.me => {
                Phase::Claiming(name, Some(revision))
            }
            Holder::Claimed(user, revision) => Phase::ReadingRival(Rival {
                user,
                claim: Claim {
                    reservation: name,
                    revision,
                },
                waited_for: false,
            }),
        }
    }

    fn release_previous_claim(&self, renamed: bool) -> Phase {
        match (&self.goal, &self.base) {
            (Goal::Hold { .. }, UserStatus::Active { claim, .. }) if renamed => {
                Phase::Releasing(claim.clone())
            }
            (Goal::Delete, UserStatus::Active { claim, .. }) => Phase::Releasing(claim.clone()),
            _ => Phase::Over(ReservationOutcome::Committed),
        }
    }

    fn retry(&mut self, phase: Phase) -> Phase {
        match self.refusals_left.checked_sub(1) {
            Some(left) => {
                self.refusals_left = left;
                phase
            }
            None => Phase::Over(ReservationOutcome::Contended),
        }
    }
}

impl Phase {
    fn creation(name: &ReservationName, read_first: bool) -> Self {
        if read_first {
            Self::ReadingReservation(name.clone())
        } else {
            Self::ClaimingUnread(name.clone())
        }
    }
}

impl Rival {
    fn judge(self, status: &UserStatus) -> Phase {
        match status {
            UserStatus::Active { claim, .. } if claim.reservation == self.claim.reservation => {
                Phase::Over(ReservationOutcome::Taken)
            }
            UserStatus::Abandoned | UserStatus::Erased => self.take_over(),
            // The claim may be stale, or its commit may be in flight. Nobody can tell which.
            UserStatus::Absent | UserStatus::Active { .. } if !self.waited_for => {
                Phase::Waiting(self)
            }
            UserStatus::Absent => Phase::Fencing(self, Fence::RegistrationAbandoned, None),
            UserStatus::Active { revision, .. } => {
                Phase::Fencing(self, Fence::RenameFenced, Some(*revision))
            }
        }
    }

    fn after_waiting(self) -> Self {
        Self {
            waited_for: true,
            ..self
        }
    }

    fn take_over(self) -> Phase {
        Phase::Claiming(self.claim.reservation, Some(self.claim.revision))
    }
}

impl UserStatus {
    /// The revision that a commit expects. `None` means that the stream must be absent.
    fn revision(&self) -> Option<u64> {
        match self {
            Self::Active { revision, .. } => Some(*revision),
            Self::Absent | Self::Abandoned | Self::Erased => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of a command whose results are `seen`.
    fn steps(goal: Goal, seen: impl IntoIterator<Item = Seen>) -> Vec<Step> {
        let mut reservation = Reservation::new(UserId::new(1), goal, 2);
        let mut steps = vec![reservation.next()];
        for seen in seen {
            reservation.observe(seen);
            steps.push(reservation.next());
        }
        steps
    }

    fn name(name: &str) -> ReservationName {
        ReservationName::new(name)
    }

    fn create(read_first: bool) -> Goal {
        let name = name("a");
        Goal::Create { name, read_first }
    }

    fn claims(expected: Option<u64>) -> Step {
        Step::Claim {
            reservation: name("a"),
            expected,
            leaves: None,
        }
    }

    fn commits(revision: u64) -> Step {
        Step::Commit {
            expected: None,
            claim: Some(Claim::of("a", revision)),
        }
    }

    #[test]
    fn an_uncontended_creation_takes_two_appends_and_no_read() {
        let seen = [Seen::Appended(0), Seen::Appended(0)];
        let expected = [
            claims(None),
            commits(0),
            Step::Done(ReservationOutcome::Committed),
        ];
        assert_eq!(steps(create(false), seen), expected);
    }

    #[test]
    fn a_released_name_is_read_after_a_refusal_and_claimed_again() {
        let seen = [
            Seen::Refused,
            Seen::Reservation(Holder::Nobody(Some(4))),
            Seen::Appended(5),
            Seen::Appended(0),
        ];
        let expected = [
            claims(None),
            Step::ReadReservation(name("a")),
            claims(Some(4)),
            commits(5),
            Step::Done(ReservationOutcome::Committed),
        ];
        assert_eq!(steps(create(false), seen), expected);
    }

    #[test]
    fn a_taken_name_costs_a_refusal_and_two_reads() {
        let rival = UserId::new(2);
        let alive = UserStatus::Active {
            claim: Claim::of("a", 0),
            revision: 0,
        };
        let seen = [
            Seen::Refused,
            Seen::Reservation(Holder::Claimed(rival, 0)),
            Seen::User(alive),
        ];
        let expected = [
            claims(None),
            Step::ReadReservation(name("a")),
            Step::ReadUser(rival),
            Step::Done(ReservationOutcome::Taken),
        ];
        assert_eq!(steps(create(false), seen), expected);
    }

    #[test]
    fn a_user_who_keeps_the_name_makes_no_claim_and_no_release() {
        let alive = UserStatus::Active {
            claim: Claim::of("a", 3),
            revision: 7,
        };
        let seen = [Seen::User(alive), Seen::Owned, Seen::Appended(8)];
        let expected = [
            Step::ReadUser(UserId::new(1)),
            Step::CheckOwner,
            Step::Commit {
                expected: Some(7),
                claim: None,
            },
            Step::Done(ReservationOutcome::Committed),
        ];
        for (wanted, former_name) in [("a", None), ("b", Some(name("a")))] {
            let name = name(wanted);
            let goal = Goal::Hold { name, former_name };
            assert_eq!(steps(goal, seen.clone()), expected);
        }
    }

    #[test]
    fn the_claim_of_a_rename_names_the_reservation_that_it_leaves() {
        let alive = UserStatus::Active {
            claim: Claim::of("a", 3),
            revision: 7,
        };
        let goal = Goal::Hold {
            name: name("b"),
            former_name: None,
        };
        let seen = [
            Seen::User(alive),
            Seen::Owned,
            Seen::Reservation(Holder::Nobody(None)),
            Seen::Appended(0),
            Seen::Appended(8),
            Seen::Appended(4),
        ];
        let expected = [
            Step::ReadUser(UserId::new(1)),
            Step::CheckOwner,
            Step::ReadReservation(name("b")),
            Step::Claim {
                reservation: name("b"),
                expected: None,
                leaves: Some(name("a")),
            },
            Step::Commit {
                expected: Some(7),
                claim: Some(Claim::of("b", 0)),
            },
            Step::Release(Claim::of("a", 3)),
            Step::Done(ReservationOutcome::Committed),
        ];
        assert_eq!(steps(goal, seen), expected);
    }

    #[test]
    fn a_command_that_another_process_owns_ends_before_it_claims() {
        let seen = [Seen::User(UserStatus::Absent), Seen::Superseded];
        let last = steps(Goal::Keep, seen).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Superseded)));
    }

    #[test]
    fn a_creation_makes_nobody_anew_after_an_erasure() {
        let seen = [
            Seen::Appended(0),
            Seen::Refused,
            Seen::User(UserStatus::Erased),
            Seen::Owned,
        ];
        let last = steps(create(false), seen).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Gone)));
    }

    #[test]
    fn a_creation_that_others_may_have_executed_reads_its_own_user_first() {
        let reservation = Reservation::new(UserId::new(1), create(false), 2).reading_first();
        assert_eq!(reservation.next(), Step::ReadUser(UserId::new(1)));
    }

    #[test]
    fn a_command_whose_user_was_read_before_does_not_read_the_user_again() {
        let status = UserStatus::Active {
            claim: Claim::of("a", 3),
            revision: 7,
        };
        let reservation = Reservation::new(UserId::new(1), Goal::Delete, 2).after_reading(status);
        let commit = Step::Commit {
            expected: Some(7),
            claim: None,
        };
        assert_eq!(reservation.next(), commit);
    }

    #[test]
    fn a_command_whose_event_is_stored_is_committed() {
        let expected = [
            Step::ReadUser(UserId::new(1)),
            Step::Done(ReservationOutcome::Committed),
        ];
        assert_eq!(steps(Goal::Keep, [Seen::AlreadyCommitted]), expected);
    }

    #[test]
    fn a_name_that_is_held_under_a_former_reservation_is_taken() {
        let last = steps(create(true), [Seen::HeldUnderFormerName]).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Taken)));
    }

    #[test]
    fn a_fence_that_is_refused_leads_to_another_look_at_the_rival() {
        let rival = UserId::new(2);
        let absent = || Seen::User(UserStatus::Absent);
        let held = Seen::Reservation(Holder::Claimed(rival, 0));
        let seen = [held, absent(), Seen::Waited, absent(), Seen::Refused];
        let fence = Step::Fence {
            user: rival,
            fence: Fence::RegistrationAbandoned,
            expected: None,
        };
        let expected = [
            Step::ReadReservation(name("a")),
            Step::ReadUser(rival),
            Step::Wait,
            Step::ReadUser(rival),
            fence,
            Step::ReadUser(rival),
        ];
        assert_eq!(steps(create(true), seen), expected);
    }

    #[test]
    fn a_claim_that_is_refused_leads_to_another_look_at_the_reservation() {
        let seen = [Seen::Reservation(Holder::Nobody(Some(4))), Seen::Refused];
        let expected = [
            Step::ReadReservation(name("a")),
            claims(Some(4)),
            Step::ReadReservation(name("a")),
        ];
        assert_eq!(steps(create(true), seen), expected);
    }

    #[test]
    fn a_command_that_has_ended_stays_as_it_ended() {
        let seen = [Seen::AlreadyCommitted, Seen::Refused, Seen::Waited];
        let last = steps(Goal::Keep, seen).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Committed)));
    }

    #[test]
    fn a_command_that_is_refused_every_time_gives_up() {
        let refused = [Seen::Reservation(Holder::Nobody(None)), Seen::Refused];
        let refused = std::iter::repeat_n(refused, 3).flatten();
        let seen = std::iter::once(Seen::Refused).chain(refused);
        let last = steps(create(false), seen).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Contended)));
    }
}
