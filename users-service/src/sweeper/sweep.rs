//! The sweep of one reservation: a step function that decides whether its last claim is released.
//!
//! A claim holds a name only while its owner's stream names the reservation. Refusals and crashes leave claims that hold
//! nothing. The next command that wants the name clears them away; the sweep does so if no command ever wants it.
//!
//! Pure: this module knows nothing of storage, time or threads. The explorer in the tests drives the same code as
//! [`Sweeper`](super::Sweeper) and the eraser.
//!
//! Invariants:
//! - A release expects the revision of the claim, which was read before the owner. So it never releases a later claim.
//! - An owner who may still commit the claim is fenced first, at the revision at which the owner was read.
//! - Only a claim that an earlier sweep suspected is released, if its owner may still commit it. So work in flight is not
//!   disturbed. Safety does not depend on that.
//! - A reservation that a user leaves by a rename is swept after the rename is decided.

use crate::command::reservation::{Holder, UserStatus};
use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::{Fence, ReservationEvent};

/// How often one sweep meets a conflict before it leaves the claim to a later one.
const REFUSALS: u32 = 4;

/// The next step. `expected` is the revision that the stream must have, or `None` for a stream without events.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SweepStep {
    /// Read the last event of a reservation. The result is [`SweepSeen::Reservation`].
    ReadReservation(ReservationName),
    /// Read a user's stream. The result is [`SweepSeen::Owner`].
    ReadOwner(UserId),
    /// Append a fence to the owner's stream. The result is [`SweepSeen::Appended`] or [`SweepSeen::Refused`].
    Fence {
        /// The owner.
        user: UserId,
        /// The fence.
        fence: Fence,
        /// The revision of the owner's stream.
        expected: Option<u64>,
    },
    /// Append a release that expects the revision of this claim. The result is [`SweepSeen::Appended`] or
    /// [`SweepSeen::Refused`].
    Release(Claim),
    /// Make sure that the store keeps only the last event of the reservation. The result is [`SweepSeen::Appended`].
    KeepLast(ReservationName),
    /// The sweep has ended.
    Done(SweepOutcome),
}

/// The result of a step.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SweepSeen {
    /// The reservation's last event was read. An event that this program does not know claims nothing.
    Reservation(Holder),
    /// The owner's stream was read. `None` if it has events that this program does not know.
    Owner(Option<UserStatus>),
    /// The event is stored, or was before.
    Appended,
    /// The stream did not have the expected revision. Nothing was stored.
    Refused,
}

/// The outcome of a sweep.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum SweepOutcome {
    /// Nothing is left to do, until the reservation gets another event.
    Settled,
    /// The owner of this claim does not hold the name, but may still commit the claim. The sweep must be repeated later.
    Suspect(Claim),
}

/// The progress of one sweep.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Sweep {
    /// Whether the store is told to keep only the last event of the reservation.
    keeps_last: bool,
    /// The reservation that the user leaves by a rename. It is swept after the first one.
    leaves: Option<ReservationName>,
    /// The claim that an earlier sweep suspected.
    suspected: Option<Claim>,
    refusals_left: u32,
    phase: SweepPhase,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum SweepPhase {
    ReadingReservation(ReservationName),
    /// The reservation of an erased user is read. No other user's claim is looked at.
    ReadingReservationOf(UserId, ReservationName),
    ReadingOwner(Suspicion),
    Fencing(Suspicion, Fence, Option<u64>),
    Releasing(Claim),
    KeepingLast(ReservationName),
    Over(SweepOutcome),
}

/// A claim that is looked at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Suspicion {
    owner: UserId,
    claim: Claim,
    /// Whether the claim is the reservation's last event, as it was just read.
    is_last: bool,
}

impl Sweep {
    /// Sweeps a reservation that got this event at this revision.
    pub(crate) fn after(name: &ReservationName, event: &ReservationEvent, revision: u64) -> Self {
        let (phase, leaves) = match event {
            ReservationEvent::Claimed { user, leaves } => {
                let claim = Claim {
                    reservation: name.clone(),
                    revision,
                };
                let suspicion = Suspicion {
                    owner: *user,
                    claim,
                    is_last: false,
                };
                (SweepPhase::ReadingOwner(suspicion), leaves.clone())
            }
            // If this is not the last event, the later one has a sweep of its own.
            ReservationEvent::Released => (SweepPhase::KeepingLast(name.clone()), None),
        };
        Self {
            keeps_last: true,
            leaves,
            suspected: None,
            refusals_left: REFUSALS,
            phase,
        }
    }

    /// Repeats a sweep that suspected this claim.
    pub(crate) fn suspecting(self, claim: Claim) -> Self {
        Self {
            suspected: Some(claim),
            ..self
        }
    }

    /// Sweeps the reservation of an erased user, who can commit nothing any more.
    pub(crate) fn of_erased(user: UserId, name: ReservationName) -> Self {
        Self {
            keeps_last: false,
            leaves: None,
            suspected: None,
            refusals_left: REFUSALS,
            phase: SweepPhase::ReadingReservationOf(user, name),
        }
    }

    /// Meets so many conflicts at most. The explorer has fewer states with fewer conflicts.
    #[cfg(test)]
    pub(crate) fn with_conflicts(self, refusals_left: u32) -> Self {
        Self {
            refusals_left,
            ..self
        }
    }

    /// The next step. It stays the same until [`observe`](Self::observe) gets its result.
    pub(crate) fn next(&self) -> SweepStep {
        match &self.phase {
            SweepPhase::ReadingReservation(name) | SweepPhase::ReadingReservationOf(_, name) => {
                SweepStep::ReadReservation(name.clone())
            }
            SweepPhase::ReadingOwner(suspicion) => SweepStep::ReadOwner(suspicion.owner),
            SweepPhase::Fencing(suspicion, fence, expected) => SweepStep::Fence {
                user: suspicion.owner,
                fence: *fence,
                expected: *expected,
            },
            SweepPhase::Releasing(claim) => SweepStep::Release(claim.clone()),
            SweepPhase::KeepingLast(name) => SweepStep::KeepLast(name.clone()),
            SweepPhase::Over(outcome) => SweepStep::Done(outcome.clone()),
        }
    }

    /// Proceeds with the result of the step.
    pub(crate) fn observe(&mut self, seen: SweepSeen) {
        let over = SweepPhase::Over(SweepOutcome::Settled);
        let phase = std::mem::replace(&mut self.phase, over);
        self.phase = match (phase, seen) {
            (SweepPhase::ReadingReservation(name), SweepSeen::Reservation(holder)) => {
                self.look_at(name, holder)
            }
            (SweepPhase::ReadingReservationOf(user, name), SweepSeen::Reservation(holder)) => {
                match holder {
                    Holder::Claimed(owner, revision) if owner == user => {
                        SweepPhase::Releasing(Claim {
                            reservation: name,
                            revision,
                        })
                    }
                    Holder::Claimed(..) | Holder::Nobody(_) => self.settled(name),
                }
            }
            (SweepPhase::ReadingOwner(suspicion), SweepSeen::Owner(status)) => {
                self.judge(suspicion, status)
            }
            (SweepPhase::Fencing(suspicion, ..), SweepSeen::Appended) => {
                SweepPhase::Releasing(suspicion.claim)
            }
            (SweepPhase::Fencing(suspicion, ..), SweepSeen::Refused) => self.retry(suspicion),
            // If the release was refused, the reservation has a later event, which has a sweep of its own.
            (SweepPhase::Releasing(claim), _) => self.settled(claim.reservation),
            (SweepPhase::KeepingLast(_), _) => self.look_at_the_left(),
            (phase, _) => phase,
        };
    }

    fn look_at(&mut self, name: ReservationName, holder: Holder) -> SweepPhase {
        match holder {
            Holder::Nobody(_) => self.settled(name),
            Holder::Claimed(owner, revision) => SweepPhase::ReadingOwner(Suspicion {
                owner,
                claim: Claim {
                    reservation: name,
                    revision,
                },
                is_last: true,
            }),
        }
    }

    fn judge(&mut self, suspicion: Suspicion, status: Option<UserStatus>) -> SweepPhase {
        let name = &suspicion.claim.reservation;
        let (fence, expected) = match status {
            None => return self.settled(suspicion.claim.reservation),
            Some(UserStatus::Active { claim, .. }) if claim.reservation == *name => {
                return self.settled(suspicion.claim.reservation);
            }
            // The claim is of an earlier time, so it may not be the last one. This spares needless fences.
            Some(_) if !suspicion.is_last => {
                return SweepPhase::ReadingReservation(suspicion.claim.reservation);
            }
            Some(UserStatus::Abandoned | UserStatus::Erased) => {
                return SweepPhase::Releasing(suspicion.claim);
            }
            Some(UserStatus::Absent) => (Fence::RegistrationAbandoned, None),
            Some(UserStatus::Active { revision, .. }) => (Fence::RenameFenced, Some(revision)),
        };
        if self.suspected.as_ref() == Some(&suspicion.claim) {
            SweepPhase::Fencing(suspicion, fence, expected)
        } else {
            SweepPhase::Over(SweepOutcome::Suspect(suspicion.claim))
        }
    }

    /// Goes on when nothing is left to do for the claims of this reservation.
    fn settled(&mut self, name: ReservationName) -> SweepPhase {
        if std::mem::take(&mut self.keeps_last) {
            SweepPhase::KeepingLast(name)
        } else {
            self.look_at_the_left()
        }
    }

    fn look_at_the_left(&mut self) -> SweepPhase {
        self.keeps_last = false;
        match self.leaves.take() {
            Some(name) => SweepPhase::ReadingReservation(name),
            None => SweepPhase::Over(SweepOutcome::Settled),
        }
    }

    fn retry(&mut self, suspicion: Suspicion) -> SweepPhase {
        match self.refusals_left.checked_sub(1) {
            Some(left) => {
                self.refusals_left = left;
                SweepPhase::ReadingOwner(suspicion)
            }
            None => SweepPhase::Over(SweepOutcome::Suspect(suspicion.claim)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWNER: UserId = UserId::new(1);

    fn name(name: &str) -> ReservationName {
        ReservationName::new(name)
    }

    fn holding(reservation: &str) -> SweepSeen {
        SweepSeen::Owner(Some(UserStatus::Active {
            claim: Claim::of(reservation, 0),
            revision: 7,
        }))
    }

    fn owner(status: UserStatus) -> SweepSeen {
        SweepSeen::Owner(Some(status))
    }

    fn last(revision: u64) -> SweepSeen {
        SweepSeen::Reservation(Holder::Claimed(OWNER, revision))
    }

    /// The sweep of reservation `b` after the claim of a rename that leaves `a`, at revision 3.
    fn renamed() -> Sweep {
        let event = ReservationEvent::Claimed {
            user: OWNER,
            leaves: Some(name("a")),
        };
        Sweep::after(&name("b"), &event, 3)
    }

    /// The sweep of reservation `a` after a claim at revision 3.
    fn claimed() -> Sweep {
        Sweep::after(&name("a"), &ReservationEvent::claimed(OWNER), 3)
    }

    fn steps(mut sweep: Sweep, seen: impl IntoIterator<Item = SweepSeen>) -> Vec<SweepStep> {
        let mut steps = vec![sweep.next()];
        for seen in seen {
            sweep.observe(seen);
            steps.push(sweep.next());
        }
        steps
    }

    fn fences(fence: Fence, expected: Option<u64>) -> SweepStep {
        SweepStep::Fence {
            user: OWNER,
            fence,
            expected,
        }
    }

    fn suspect(claim: Claim) -> SweepStep {
        SweepStep::Done(SweepOutcome::Suspect(claim))
    }

    const SETTLED: SweepStep = SweepStep::Done(SweepOutcome::Settled);

    #[test]
    fn a_claim_that_its_owner_holds_costs_one_read_and_the_limit_of_the_stream() {
        let expected = [
            SweepStep::ReadOwner(OWNER),
            SweepStep::KeepLast(name("a")),
            SETTLED,
        ];
        assert_eq!(
            steps(claimed(), [holding("a"), SweepSeen::Appended]),
            expected
        );
    }

    #[test]
    fn a_released_reservation_is_only_limited() {
        let sweep = Sweep::after(&name("a"), &ReservationEvent::Released, 4);
        let expected = [SweepStep::KeepLast(name("a")), SETTLED];
        assert_eq!(steps(sweep, [SweepSeen::Appended]), expected);
    }

    #[test]
    fn the_claim_of_a_user_who_is_gone_is_released_without_a_fence() {
        for status in [UserStatus::Erased, UserStatus::Abandoned] {
            let seen = [
                owner(status.clone()),
                last(3),
                owner(status),
                SweepSeen::Appended,
                SweepSeen::Appended,
            ];
            let expected = [
                SweepStep::ReadOwner(OWNER),
                SweepStep::ReadReservation(name("a")),
                SweepStep::ReadOwner(OWNER),
                SweepStep::Release(Claim::of("a", 3)),
                SweepStep::KeepLast(name("a")),
                SETTLED,
            ];
            assert_eq!(steps(claimed(), seen), expected);
        }
    }

    #[test]
    fn a_claim_in_flight_is_suspected_first_and_fenced_and_released_the_second_time() {
        let alive = UserStatus::Active {
            claim: Claim::of("c", 0),
            revision: 7,
        };
        for (status, fence, revision) in [
            (UserStatus::Absent, Fence::RegistrationAbandoned, None),
            (alive, Fence::RenameFenced, Some(7)),
        ] {
            let seen = [owner(status.clone()), last(3), owner(status)];
            let first = steps(claimed(), seen.clone());
            assert_eq!(first.last(), Some(&suspect(Claim::of("a", 3))));
            let appended = [const { SweepSeen::Appended }; 3];
            let seen = seen.into_iter().chain(appended);
            let second = steps(claimed().suspecting(Claim::of("a", 3)), seen);
            let expected = [
                fences(fence, revision),
                SweepStep::Release(Claim::of("a", 3)),
                SweepStep::KeepLast(name("a")),
                SETTLED,
            ];
            assert_eq!(second[3..], expected);
        }
    }

    #[test]
    fn a_claim_that_followed_the_suspected_one_is_suspected_anew() {
        let seen = [
            owner(UserStatus::Absent),
            last(4),
            owner(UserStatus::Absent),
        ];
        let steps = steps(claimed().suspecting(Claim::of("a", 3)), seen);
        assert_eq!(steps.last(), Some(&suspect(Claim::of("a", 4))));
    }

    #[test]
    fn an_owner_who_moved_before_the_fence_is_looked_at_again() {
        let absent = owner(UserStatus::Absent);
        let seen = [absent.clone(), last(3), absent.clone(), SweepSeen::Refused];
        let again = claimed().suspecting(Claim::of("a", 3));
        let committed = seen.clone().into_iter().chain([holding("a")]);
        let committed = steps(again.clone(), committed);
        assert_eq!(committed[4], SweepStep::ReadOwner(OWNER));
        assert_eq!(committed[5], SweepStep::KeepLast(name("a")));
        let every_time = std::iter::repeat_n([absent, SweepSeen::Refused], REFUSALS as usize);
        let given_up = steps(again, seen.into_iter().chain(every_time.flatten()));
        assert_eq!(given_up.last(), Some(&suspect(Claim::of("a", 3))));
        let fence = fences(Fence::RegistrationAbandoned, None);
        assert_eq!(given_up[given_up.len() - 2], fence);
    }

    #[test]
    fn a_superseded_claim_fences_nobody() {
        let free = SweepSeen::Reservation(Holder::Nobody(Some(5)));
        let steps = steps(claimed(), [holding("c"), free]);
        assert_eq!(steps.last(), Some(&SweepStep::KeepLast(name("a"))));
    }

    #[test]
    fn a_claim_of_an_unknown_owner_is_left_alone() {
        let steps = steps(claimed(), [SweepSeen::Owner(None), SweepSeen::Appended]);
        assert_eq!(steps[1..], [SweepStep::KeepLast(name("a")), SETTLED]);
    }

    #[test]
    fn the_reservation_that_a_rename_leaves_is_swept_after_the_rename_is_decided() {
        let seen = [holding("b"), SweepSeen::Appended, last(0), holding("b")];
        let first = steps(renamed(), seen.clone());
        let expected = [
            SweepStep::ReadOwner(OWNER),
            SweepStep::KeepLast(name("b")),
            SweepStep::ReadReservation(name("a")),
            SweepStep::ReadOwner(OWNER),
            suspect(Claim::of("a", 0)),
        ];
        assert_eq!(first, expected);
        let appended = [const { SweepSeen::Appended }; 2];
        let second = renamed().suspecting(Claim::of("a", 0));
        let second = steps(second, seen.into_iter().chain(appended));
        let expected = [
            fences(Fence::RenameFenced, Some(7)),
            SweepStep::Release(Claim::of("a", 0)),
            SETTLED,
        ];
        assert_eq!(second[4..], expected);
        let undecided = [holding("a"), last(3), holding("a")];
        let undecided = steps(renamed(), undecided);
        assert_eq!(undecided.last(), Some(&suspect(Claim::of("b", 3))));
    }

    #[test]
    fn of_an_erased_user_the_last_claim_is_released_whichever_it_is() {
        let sweep = Sweep::of_erased(OWNER, name("a"));
        let expected = [
            SweepStep::ReadReservation(name("a")),
            SweepStep::Release(Claim::of("a", 9)),
            SETTLED,
        ];
        assert_eq!(
            steps(sweep.clone(), [last(9), SweepSeen::Refused]),
            expected
        );
        for other in [
            Holder::Nobody(Some(9)),
            Holder::Nobody(None),
            Holder::Claimed(UserId::new(2), 9),
        ] {
            let steps = steps(sweep.clone(), [SweepSeen::Reservation(other)]);
            assert_eq!(steps.last(), Some(&SETTLED));
        }
    }

    #[test]
    fn a_result_that_belongs_to_another_step_changes_nothing() {
        let mut sweep = claimed();
        sweep.observe(SweepSeen::Refused);
        assert_eq!(sweep.next(), SweepStep::ReadOwner(OWNER));
    }
}
