//! The fenced reservation of a username: which read or append comes next, given what the last one showed.
//!
//! Pure: knows nothing of storage, time or threads, so that the explorer in the tests drives the very code that
//! [`CommandHandler`](super::handler::CommandHandler) drives.
//!
//! Invariants:
//! - At no time do two live users hold one name, whatever stalls, stops or races.
//! - What a commit expects of the user's stream was read before the claim, so that a fence set in between refuses it.
//! - A claim is always a new event, also over one's own earlier claim: that is what makes a rival's takeover fail.
//! - A claim whose commit was refused is left: to release it could free the name of a living user.
//! - Only the very claim that was committed is released. A claim holds only while its owner's stream says so.

use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::Fence;

#[cfg(test)]
mod explorer;

/// What a command wants of a user's name.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Goal {
    /// A new user lives under the name.
    Create {
        /// The name.
        name: ReservationName,
        /// Whether the reservation is read before it is claimed: for a name that may be held under a reservation that
        /// it had before more letters were folded. Any other name is claimed at once, and read only after a refusal.
        read_first: bool,
    },
    /// The user lives under the name from here on.
    Hold {
        /// The name.
        name: ReservationName,
        /// The reservation that this spelling had before more letters were folded: whoever holds that one keeps it.
        formerly: Option<ReservationName>,
    },
    /// The user goes on under the same name.
    Keep,
    /// The user is no more.
    Delete,
}

/// What a user's stream says, without any key.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum UserStatus {
    /// There is no event.
    Absent,
    /// Given up before anybody was made.
    Abandoned,
    /// Alive under the claim; the stream's last event has the revision.
    Alive {
        /// The claim of the last event that carried one.
        claim: Claim,
        /// The revision of the last event of any kind.
        revision: u64,
    },
    /// Deleted.
    Erased,
}

/// What a reservation's last event says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Holder {
    /// Never claimed, or released at this revision.
    Nobody(Option<u64>),
    /// Claimed by the user at this revision.
    Claimed(UserId, u64),
}

/// The next thing to do. `expected` is the revision that the stream must have, `None` for a stream without events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Step {
    /// Read a user's stream; answer [`Seen::User`].
    ReadUser(UserId),
    /// Read a reservation's last event; answer [`Seen::Reservation`].
    ReadReservation(ReservationName),
    /// Let a rival finish, about 50 ms (spares work, safety does not need it); answer [`Seen::Waited`].
    Wait,
    /// Append a claim by this user; answer [`Seen::Appended`] or [`Seen::Refused`].
    Claim {
        /// Where to.
        reservation: ReservationName,
        /// The reservation's revision.
        expected: Option<u64>,
    },
    /// Append a fence to a rival's stream; answer [`Seen::Appended`] or [`Seen::Refused`].
    Fence {
        /// Whose stream.
        user: UserId,
        /// Which fence.
        fence: Fence,
        /// The revision of the rival's stream.
        expected: Option<u64>,
    },
    /// Decide upon what the user's stream said last, and append; answer [`Seen::Appended`], [`Seen::Refused`] or
    /// [`Seen::Unchanged`].
    Commit {
        /// The revision of the user's stream.
        expected: Option<u64>,
        /// The claim that was made for it; none when the user keeps the one that is held.
        claim: Option<Claim>,
    },
    /// Append a release, expecting the claim's own revision; answer either way, it is left if refused.
    Release(Claim),
    /// Nothing: it is over.
    Done(ReservationOutcome),
}

/// What came of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Seen {
    /// A user's stream says so.
    User(UserStatus),
    /// A reservation's last event says so.
    Reservation(Holder),
    /// Somebody else lives under the name by a reservation that it had before more letters were folded.
    HeldFormerly,
    /// Some time has passed.
    Waited,
    /// The event is stored at this revision.
    Appended(u64),
    /// The stream is not as expected: nothing was stored.
    Refused,
    /// Everything is so already: nothing was to be stored.
    Unchanged,
}

/// How it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReservationOutcome {
    /// The command's events are stored.
    Committed,
    /// Somebody else lives under the name.
    Taken,
    /// The new user's id is not new (any more): a fresh one is needed.
    IdUsed,
    /// Others were quicker every time.
    Contended,
}

/// One command on its way.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Reservation {
    me: UserId,
    goal: Goal,
    refusals_left: u32,
    /// What the user's own stream said before the claim.
    base: UserStatus,
    at: At,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum At {
    Myself,
    Name(ReservationName),
    Rival(Rival),
    Waiting(Rival),
    Fencing(Rival, Fence, Option<u64>),
    ClaimingUnread(ReservationName),
    Claiming(ReservationName, Option<u64>),
    Committing(Option<Claim>),
    Releasing(Claim),
    Over(ReservationOutcome),
}

/// Somebody who claimed the name before.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Rival {
    user: UserId,
    claim: Claim,
    waited_for: bool,
}

impl Reservation {
    /// Begins; every refusal beyond `refusals` ends it as [`ReservationOutcome::Contended`].
    ///
    /// A new user's stream is not read at first: the commit expects it to be absent.
    #[must_use]
    pub fn new(me: UserId, goal: Goal, refusals: u32) -> Self {
        let at = match &goal {
            Goal::Create { name, read_first } => At::creation(name, *read_first),
            Goal::Hold { .. } | Goal::Keep | Goal::Delete => At::Myself,
        };
        Self {
            me,
            goal,
            refusals_left: refusals,
            base: UserStatus::Absent,
            at,
        }
    }

    /// What to do next; the same until [`observe`](Self::observe) is told what came of it.
    #[must_use]
    pub fn next(&self) -> Step {
        match &self.at {
            At::Myself => Step::ReadUser(self.me),
            At::Name(name) => Step::ReadReservation(name.clone()),
            At::Rival(rival) => Step::ReadUser(rival.user),
            At::Waiting(_) => Step::Wait,
            At::Fencing(rival, fence, expected) => Step::Fence {
                user: rival.user,
                fence: *fence,
                expected: *expected,
            },
            At::ClaimingUnread(reservation) => Step::Claim {
                reservation: reservation.clone(),
                expected: None,
            },
            At::Claiming(reservation, expected) => Step::Claim {
                reservation: reservation.clone(),
                expected: *expected,
            },
            At::Committing(claim) => Step::Commit {
                expected: self.base.revision(),
                claim: claim.clone(),
            },
            At::Releasing(claim) => Step::Release(claim.clone()),
            At::Over(outcome) => Step::Done(*outcome),
        }
    }

    /// Goes on with what came of the step.
    pub fn observe(&mut self, seen: Seen) {
        let at = std::mem::replace(&mut self.at, At::Myself);
        self.at = match (at, seen) {
            (At::Myself, Seen::User(status)) => self.begin(status),
            (At::Name(name), Seen::Reservation(holder)) => self.take(name, holder),
            (At::Name(_), Seen::HeldFormerly) => At::Over(ReservationOutcome::Taken),
            (At::Rival(rival), Seen::User(status)) => rival.judge(&status),
            (At::Waiting(rival), Seen::Waited) => At::Rival(rival.patiently()),
            (At::Fencing(rival, ..), Seen::Appended(_)) => rival.take_over(),
            (At::Fencing(rival, ..), Seen::Refused) => self.again(At::Rival(rival)),
            (
                At::ClaimingUnread(reservation) | At::Claiming(reservation, _),
                Seen::Appended(revision),
            ) => At::Committing(Some(Claim {
                reservation,
                revision,
            })),
            // The name was claimed before, by somebody or by nobody any more: no rival was quicker yet.
            (At::ClaimingUnread(name), Seen::Refused) => At::Name(name),
            (At::Claiming(name, _), Seen::Refused) => self.again(At::Name(name)),
            (At::Committing(claim), Seen::Appended(_)) => self.tidy_up(claim.is_some()),
            (At::Committing(_), Seen::Unchanged)
            | (At::Releasing(_), Seen::Appended(_) | Seen::Refused) => {
                At::Over(ReservationOutcome::Committed)
            }
            (At::Over(outcome), _) => At::Over(outcome),
            // A commit that was refused begins again, and so would anything that does not answer the step.
            _ => self.again(At::Myself),
        };
    }

    fn begin(&mut self, status: UserStatus) -> At {
        self.base = status;
        match (&self.goal, &self.base) {
            (Goal::Create { name, .. }, UserStatus::Absent) => At::Name(name.clone()),
            (Goal::Create { .. }, _) => At::Over(ReservationOutcome::IdUsed),
            (Goal::Hold { name, formerly }, UserStatus::Alive { claim, .. })
                if claim.reservation != *name && Some(&claim.reservation) != formerly.as_ref() =>
            {
                At::Name(name.clone())
            }
            // The name stays, or there is nobody to rename: the decider says what that means.
            (Goal::Hold { .. } | Goal::Keep | Goal::Delete, _) => At::Committing(None),
        }
    }

    fn take(&self, name: ReservationName, holder: Holder) -> At {
        match holder {
            Holder::Nobody(expected) => At::Claiming(name, expected),
            Holder::Claimed(user, revision) if user == self.me => {
                At::Claiming(name, Some(revision))
            }
            Holder::Claimed(user, revision) => At::Rival(Rival {
                user,
                claim: Claim {
                    reservation: name,
                    revision,
                },
                waited_for: false,
            }),
        }
    }

    fn tidy_up(&self, renamed: bool) -> At {
        match (&self.goal, &self.base) {
            (Goal::Hold { .. }, UserStatus::Alive { claim, .. }) if renamed => {
                At::Releasing(claim.clone())
            }
            (Goal::Delete, UserStatus::Alive { claim, .. }) => At::Releasing(claim.clone()),
            _ => At::Over(ReservationOutcome::Committed),
        }
    }

    fn again(&mut self, at: At) -> At {
        match self.refusals_left.checked_sub(1) {
            Some(left) => {
                self.refusals_left = left;
                at
            }
            None => At::Over(ReservationOutcome::Contended),
        }
    }
}

impl At {
    fn creation(name: &ReservationName, read_first: bool) -> Self {
        if read_first {
            Self::Name(name.clone())
        } else {
            Self::ClaimingUnread(name.clone())
        }
    }
}

impl Rival {
    fn judge(self, status: &UserStatus) -> At {
        match status {
            UserStatus::Alive { claim, .. } if claim.reservation == self.claim.reservation => {
                At::Over(ReservationOutcome::Taken)
            }
            UserStatus::Abandoned | UserStatus::Erased => self.take_over(),
            // Stale or in flight: nobody can tell which.
            UserStatus::Absent | UserStatus::Alive { .. } if !self.waited_for => At::Waiting(self),
            UserStatus::Absent => At::Fencing(self, Fence::RegistrationAbandoned, None),
            UserStatus::Alive { revision, .. } => {
                At::Fencing(self, Fence::RenameFenced, Some(*revision))
            }
        }
    }

    fn patiently(self) -> Self {
        Self {
            waited_for: true,
            ..self
        }
    }

    fn take_over(self) -> At {
        At::Claiming(self.claim.reservation, Some(self.claim.revision))
    }
}

impl UserStatus {
    /// The revision of the stream's last event; none where there is no event that anything may follow.
    fn revision(&self) -> Option<u64> {
        match self {
            Self::Alive { revision, .. } => Some(*revision),
            Self::Absent | Self::Abandoned | Self::Erased => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The steps of a command, each answered by the next of `seen`.
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

    fn claim(reservation: &str, revision: u64) -> Claim {
        let reservation = name(reservation);
        Claim {
            reservation,
            revision,
        }
    }

    fn create(read_first: bool) -> Goal {
        let name = name("a");
        Goal::Create { name, read_first }
    }

    fn claims(expected: Option<u64>) -> Step {
        let reservation = name("a");
        Step::Claim {
            reservation,
            expected,
        }
    }

    fn commits(revision: u64) -> Step {
        Step::Commit {
            expected: None,
            claim: Some(claim("a", revision)),
        }
    }

    #[test]
    fn an_uncontended_creation_is_two_appends_and_no_read() {
        let seen = [Seen::Appended(0), Seen::Appended(0)];
        let expected = [
            claims(None),
            commits(0),
            Step::Done(ReservationOutcome::Committed),
        ];
        assert_eq!(steps(create(false), seen), expected);
    }

    #[test]
    fn a_name_that_was_released_is_read_after_a_refusal_and_claimed_again() {
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
    fn a_name_that_is_taken_costs_a_refusal_and_two_reads() {
        let rival = UserId::new(2);
        let alive = UserStatus::Alive {
            claim: claim("a", 0),
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
    fn ones_own_name_makes_no_claim_and_releases_nothing() {
        let alive = UserStatus::Alive {
            claim: claim("a", 3),
            revision: 7,
        };
        let seen = [Seen::User(alive), Seen::Appended(8)];
        let expected = [
            Step::ReadUser(UserId::new(1)),
            Step::Commit {
                expected: Some(7),
                claim: None,
            },
            Step::Done(ReservationOutcome::Committed),
        ];
        for (wanted, formerly) in [("a", None), ("b", Some(name("a")))] {
            let name = name(wanted);
            let goal = Goal::Hold { name, formerly };
            assert_eq!(steps(goal, seen.clone()), expected);
        }
    }

    #[test]
    fn a_name_that_is_held_under_a_former_folding_is_taken() {
        let last = steps(create(true), [Seen::HeldFormerly]).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Taken)));
    }

    #[test]
    fn who_is_refused_every_time_gives_up() {
        let refused = [Seen::Reservation(Holder::Nobody(None)), Seen::Refused];
        let refused = std::iter::repeat_n(refused, 3).flatten();
        let seen = std::iter::once(Seen::Refused).chain(refused);
        let last = steps(create(false), seen).pop();
        assert_eq!(last, Some(Step::Done(ReservationOutcome::Contended)));
    }
}
