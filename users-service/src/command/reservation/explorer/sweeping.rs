//! The sweep of the reservations, and the eraser. Each step is one read or append.
//!
//! There are two models. The [`Sweeper`] and the [`Eraser`] follow the log as in production, so they show what is left behind.
//! The [`Cleaner`] sweeps any claim at any time, so it covers every schedule of any number of sweeps, and has fewer states.

use super::Variation;
use super::model::Store;
use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::ReservationEvent;
use crate::sweeper::sweep::{Sweep, SweepOutcome, SweepSeen, SweepStep};

/// How many conflicts a sweep survives.
const CONFLICTS: u32 = 0;

/// An event of a reservation, and the claim that an earlier look at it suspected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Swept {
    name: ReservationName,
    event: ReservationEvent,
    revision: u64,
    suspected: Option<Claim>,
}

/// The sweep, which follows the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Sweeper {
    running: Option<(Swept, Sweep)>,
    unsettled: Vec<Swept>,
}

/// What a sweeper does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Move {
    /// The next step of the running sweep, or the next event of the log.
    Next,
    /// Another look at the first claim that is not settled.
    LookAgain,
}

impl Sweeper {
    /// Performs one read or append. Returns false if nothing is left to do.
    pub(super) fn step(&mut self, store: &mut Store, choice: Move, variation: Variation) -> bool {
        match (&self.running, choice) {
            (Some(_), Move::Next) => {}
            (Some(_), Move::LookAgain) => return false,
            (None, choice) => {
                if !self.begin(store, choice) {
                    return false;
                }
            }
        }
        let Some((swept, mut sweep)) = self.running.take() else {
            return false;
        };
        let step = sweep.next();
        sweep.observe(perform(step, store, variation));
        skip_limits(&mut sweep);
        let SweepStep::Done(outcome) = sweep.next() else {
            self.running = Some((swept, sweep));
            return true;
        };
        if let SweepOutcome::Suspect(claim) = outcome {
            self.unsettled.push(Swept {
                suspected: Some(claim),
                ..swept
            });
        }
        true
    }

    fn begin(&mut self, store: &mut Store, choice: Move) -> bool {
        let swept = match choice {
            Move::LookAgain if self.unsettled.is_empty() => return false,
            Move::LookAgain => self.unsettled.remove(0),
            Move::Next => {
                let Some((name, event, revision)) = store.log().reservations.pop_front() else {
                    return false;
                };
                Swept {
                    name,
                    event,
                    revision,
                    suspected: None,
                }
            }
        };
        let sweep = Sweep::after(&swept.name, &swept.event, swept.revision);
        let sweep = sweep.with_conflicts(CONFLICTS);
        let sweep = match &swept.suspected {
            Some(claim) => sweep.suspecting(claim.clone()),
            None => sweep,
        };
        self.running = Some((swept, sweep));
        true
    }

    /// Sweeps all events of the log, and looks again at what is not settled, until all is settled.
    pub(super) fn finish(&mut self, store: &mut Store, variation: Variation) {
        for _ in 0..1_000 {
            let acted = self.step(store, Move::Next, variation)
                || self.step(store, Move::LookAgain, variation);
            if !acted {
                return;
            }
        }
        panic!("the sweep does not end");
    }
}

fn perform(step: SweepStep, store: &mut Store, variation: Variation) -> SweepSeen {
    let appended =
        |appended: Option<u64>| appended.map_or(SweepSeen::Refused, |_| SweepSeen::Appended);
    match step {
        SweepStep::ReadReservation(name) => SweepSeen::Reservation(store.holder(&name)),
        SweepStep::ReadOwner(user) => SweepSeen::Owner(Some(store.status(user))),
        SweepStep::Fence { expected, .. } if variation.spares_a_fence(expected) => {
            SweepSeen::Appended
        }
        SweepStep::Fence {
            user,
            fence,
            expected,
        } => appended(store.fence(user, fence, expected)),
        SweepStep::Release(claim) => {
            let current = store.last_revision_of(&claim.reservation);
            let expected = if variation == Variation::SweepsAtAnyRevision {
                current
            } else {
                Some(claim.revision)
            };
            let released = ReservationEvent::Released;
            appended(store.append_to_reservation(&claim.reservation, expected, released))
        }
        SweepStep::KeepLast(_) => SweepSeen::Appended,
        SweepStep::Done(_) => unreachable!("a finished sweep has no step"),
    }
}

/// Sweeps and erasures that may begin at any time, one after the other.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Cleaner {
    running: Option<Sweep>,
}

impl Cleaner {
    /// What the cleaner may do next. Each choice is a state of the cleaner and of the store.
    pub(super) fn choices(&self, store: &Store, variation: Variation) -> Vec<(Self, Store)> {
        if let Some(mut sweep) = self.running.clone() {
            let mut store = store.clone();
            let step = sweep.next();
            sweep.observe(perform(step, &mut store, variation));
            return vec![(Self::running(sweep), store)];
        }
        let sweeps = store.claims().into_iter().map(|(name, event, revision)| {
            let suspected = Claim {
                reservation: name.clone(),
                revision,
            };
            let sweep = Sweep::after(&name, &event, revision).suspecting(suspected);
            sweep.with_conflicts(CONFLICTS)
        });
        let deleted = store.deleted();
        let erasures = deleted
            .iter()
            .map(|(user, claim)| Sweep::of_erased(*user, claim.reservation.clone()));
        let begun = sweeps.chain(erasures).map(|mut sweep| {
            let mut store = store.clone();
            let step = sweep.next();
            sweep.observe(perform(step, &mut store, variation));
            (Self::running(sweep), store)
        });
        let tombstoned = deleted.iter().map(|(user, _)| {
            let mut store = store.clone();
            store.tombstone(*user);
            (Self::default(), store)
        });
        begun.chain(tombstoned).collect()
    }

    fn running(mut sweep: Sweep) -> Self {
        skip_limits(&mut sweep);
        let is_over = matches!(sweep.next(), SweepStep::Done(_));
        Self {
            running: (!is_over).then_some(sweep),
        }
    }
}

/// The limit of a stream matters to nobody.
fn skip_limits(sweep: &mut Sweep) {
    while let SweepStep::KeepLast(_) = sweep.next() {
        sweep.observe(SweepSeen::Appended);
    }
}

/// The eraser, which follows deletions.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Eraser {
    running: Option<(UserId, Option<Sweep>)>,
}

impl Eraser {
    /// Performs one read or append. Returns false if nothing is left to do.
    pub(super) fn step(&mut self, store: &mut Store, variation: Variation) -> bool {
        let Some((user, sweep)) = self.running.take() else {
            return self.begin(store);
        };
        match sweep {
            None => store.tombstone(user),
            Some(mut sweep) => {
                let step = match (sweep.next(), variation, store.last_claim(user)) {
                    (
                        SweepStep::Release(_),
                        Variation::ErasesOnlyTheCommittedClaim,
                        Some(committed),
                    ) => SweepStep::Release(committed.clone()),
                    (step, ..) => step,
                };
                sweep.observe(perform(step, store, variation));
                let is_over = matches!(sweep.next(), SweepStep::Done(_));
                self.running = Some((user, (!is_over).then_some(sweep)));
            }
        }
        true
    }

    fn begin(&mut self, store: &mut Store) -> bool {
        while let Some(user) = store.log().deleted.pop_front() {
            if let Some(claim) = store.claim_of_deleted(user) {
                let sweep = Sweep::of_erased(user, claim.reservation);
                self.running = Some((user, Some(sweep)));
                return true;
            }
        }
        false
    }

    /// Finishes the erasures of all users that the log says are deleted.
    pub(super) fn finish(&mut self, store: &mut Store, variation: Variation) {
        while self.step(store, variation) {}
    }
}
