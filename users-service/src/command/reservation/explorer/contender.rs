//! A process that executes commands, one after the other. Each step is one read or append.

use super::Variation;
use super::model::{CommandNumber, MemoryEvent, ModelEvent, Store};
use crate::command::attempt::{
    AttemptLimits, AttemptOutcome, AttemptSeen, AttemptStep, CommandAttempt, Decided,
};
use crate::command::envelope::CommandKind;
use crate::command::reservation::{
    Goal, Holder, Reservation, ReservationOutcome, Seen, Step, UserStatus,
};
use crate::domain::{Claim, ReservationName, UserError, UserId};
use crate::stored_event::{NoEvent, ReservationEvent};

/// The bounds of the contenders. They are small, so that there are few states.
const LIMITS: Limits = Limits {
    refusals: 2,
    attempt: AttemptLimits {
        follows: 1,
        decisions: 1,
    },
};
/// The bounds of a contender that runs alone, as in production.
const LONE: Limits = Limits {
    refusals: 64,
    attempt: AttemptLimits {
        follows: 4,
        decisions: 8,
    },
};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Limits {
    refusals: u32,
    attempt: AttemptLimits,
}

/// A command that a contender executes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Task {
    pub(super) number: CommandNumber,
    pub(super) goal: Goal,
    pub(super) has_key: bool,
}

impl Task {
    pub(super) fn with_key(number: CommandNumber, goal: Goal) -> Self {
        Self {
            number,
            goal,
            has_key: true,
        }
    }

    pub(super) fn without_key(number: CommandNumber, goal: Goal) -> Self {
        Self {
            number,
            goal,
            has_key: false,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Contender {
    /// The user of the command. A creation begins with an id of this process.
    user: UserId,
    tasks: Vec<Task>,
    limits: Limits,
    attempt: Option<CommandAttempt>,
    reservation: Option<Reservation>,
    /// The revision of the memory at which this process owns the command.
    head: u64,
    /// The user's status, if it was read before the command was accepted.
    base: Option<UserStatus>,
    /// Whether the user was active when this process accepted the command.
    was_active: bool,
    /// The user's status at the last read. The decider uses it.
    status: UserStatus,
    /// The revision of the command's event.
    committed: Option<u64>,
    /// The refusal of the decider.
    refusal: Option<UserError>,
    /// The revision that the extra read of a variation found.
    extra_read: Option<u64>,
    to_release: Option<Claim>,
    /// Whether a contender that runs alone was told to try again.
    is_contended: bool,
}

impl Contender {
    pub(super) fn new(user: u64, tasks: &[Task]) -> Self {
        Self::with_limits(UserId::new(user), tasks, LIMITS)
    }

    /// The same contender with still smaller bounds, for worlds with many states.
    pub(super) fn within(&self, refusals: u32, follows: u32) -> Self {
        let attempt = AttemptLimits {
            follows,
            ..LIMITS.attempt
        };
        let tasks: Vec<_> = self.tasks.iter().rev().cloned().collect();
        Self::with_limits(self.user, &tasks, Limits { refusals, attempt })
    }

    /// A contender that runs while no other moves.
    pub(super) fn alone(user: UserId, task: Task) -> Self {
        Self::with_limits(user, &[task], LONE)
    }

    fn with_limits(user: UserId, tasks: &[Task], limits: Limits) -> Self {
        let mut contender = Self {
            user,
            tasks: tasks.iter().rev().cloned().collect(),
            limits,
            attempt: None,
            reservation: None,
            head: 0,
            base: None,
            was_active: false,
            status: UserStatus::Absent,
            committed: None,
            refusal: None,
            extra_read: None,
            to_release: None,
            is_contended: false,
        };
        contender.start();
        contender
    }

    /// The commands with a key, and their user.
    pub(super) fn keyed(&self) -> impl Iterator<Item = (UserId, Task)> {
        let tasks = self.tasks.iter().filter(|task| task.has_key);
        tasks.map(|task| (self.user, task.clone()))
    }

    pub(super) fn is_contended(&self) -> bool {
        self.is_contended
    }

    fn start(&mut self) {
        self.attempt = None;
        self.reservation = None;
        self.base = None;
        let Some(task) = self.tasks.last() else {
            return;
        };
        if task.has_key {
            let kind = match &task.goal {
                Goal::Create { .. } => CommandKind::Create,
                Goal::Hold { .. } | Goal::Keep => CommandKind::Patch,
                Goal::Delete => CommandKind::Delete,
            };
            self.attempt = Some(CommandAttempt::new(kind, self.limits.attempt));
        } else {
            self.run(false);
        }
    }

    /// Begins to decide the command.
    fn run(&mut self, read_first: bool) {
        let goal = self.tasks.last().unwrap().goal.clone();
        let reservation = Reservation::new(self.user, goal, self.limits.refusals);
        let base = self.base.take();
        self.was_active = matches!(base, Some(UserStatus::Active { .. }));
        self.status = base.clone().unwrap_or(UserStatus::Absent);
        self.committed = None;
        self.refusal = None;
        self.reservation = Some(match base {
            Some(status) => reservation.after_reading(status),
            None if read_first => reservation.reading_first(),
            None => reservation,
        });
    }

    fn finish(&mut self) {
        self.tasks.pop();
        self.start();
    }

    /// Performs one read or append. Returns false if nothing is left to do.
    pub(super) fn step(&mut self, store: &mut Store, variation: Variation) -> bool {
        if self.tasks.is_empty() {
            return false;
        }
        if let Some(claim) = self.to_release.take() {
            let expected = Some(claim.revision);
            let released = ReservationEvent::Released;
            store.append_to_reservation(&claim.reservation, expected, released);
            return true;
        }
        if let Some(reservation) = &self.reservation {
            let step = reservation.next();
            if let Some(seen) = self.reserve(step, store, variation) {
                self.observe(seen);
            }
        } else if let Some(attempt) = &self.attempt {
            let step = attempt.next();
            if let Some(seen) = self.attempt(&step, store, variation) {
                self.observe_attempt(seen);
            }
        }
        while self.takes_a_step_of_its_own(store, variation) {}
        true
    }

    /// Performs the next step if it does not touch the store, so that it needs no interleaving.
    fn takes_a_step_of_its_own(&mut self, store: &mut Store, variation: Variation) -> bool {
        let step = self.reservation.as_ref().map(Reservation::next);
        match (step, self.attempt.as_ref().map(CommandAttempt::next)) {
            (Some(Step::Wait), _) => self.observe(Seen::Waited),
            (Some(Step::CheckOwner), None) => self.observe(Seen::Owned),
            (Some(Step::CheckOwner), Some(_))
                if variation == Variation::RetriesWithoutAnOwnershipCheck =>
            {
                self.observe(Seen::Owned);
            }
            (Some(Step::Done(_)), None) => self.finish(),
            (Some(Step::Done(outcome)), Some(_)) => self.decided(outcome, store),
            (None, Some(AttemptStep::Wait)) => self.observe_attempt(AttemptSeen::PatienceOver),
            (
                None,
                Some(AttemptStep::Run {
                    user,
                    head,
                    read_first,
                }),
            ) => {
                self.user = user;
                self.head = head;
                self.run(read_first && variation != Variation::NeverReadsANewUserFirst);
            }
            (None, Some(AttemptStep::Done(outcome))) => self.answer(outcome, store),
            _ => return false,
        }
        true
    }

    fn observe(&mut self, seen: Seen) {
        if let Some(reservation) = &mut self.reservation {
            reservation.observe(seen);
        }
    }

    fn observe_attempt(&mut self, seen: AttemptSeen) {
        if let Some(attempt) = &mut self.attempt {
            attempt.observe(seen);
        }
    }

    /// Reports the end of the reservation protocol to the attempt.
    fn decided(&mut self, outcome: ReservationOutcome, store: &mut Store) {
        self.reservation = None;
        let without_event = |reason| Decided::WithoutEvent(reason, self.status.clone());
        let decided = match (outcome, self.committed, self.refusal) {
            // Another command has deleted the user since.
            (_, _, Some(UserError::Erased)) if self.was_active && self.is_deleting() => {
                without_event(NoEvent::Unchanged(0))
            }
            (_, _, Some(refusal)) => without_event(NoEvent::Refused(refusal)),
            (ReservationOutcome::Committed, Some(revision), _) => Decided::Committed(revision),
            (ReservationOutcome::Committed, None, _) => without_event(NoEvent::Unchanged(0)),
            (ReservationOutcome::Taken, ..) => {
                without_event(NoEvent::Refused(UserError::UsernameTaken))
            }
            (ReservationOutcome::IdUsed, ..) => Decided::IdUsed,
            (ReservationOutcome::Superseded, ..) => Decided::Superseded,
            (ReservationOutcome::Gone, ..) => return self.answer(AttemptOutcome::Gone, store),
            (ReservationOutcome::Contended, ..) => {
                return self.answer(AttemptOutcome::Contended, store);
            }
        };
        self.observe_attempt(AttemptSeen::Ran(decided));
    }

    fn is_deleting(&self) -> bool {
        self.tasks
            .last()
            .is_some_and(|task| task.goal == Goal::Delete)
    }

    fn answer(&mut self, outcome: AttemptOutcome, store: &mut Store) {
        self.is_contended = self.limits == LONE && outcome == AttemptOutcome::Contended;
        store.tell(self.tasks.last().unwrap().number, outcome);
        self.finish();
    }

    fn attempt(
        &mut self,
        step: &AttemptStep,
        store: &mut Store,
        variation: Variation,
    ) -> Option<AttemptSeen> {
        let Task { number, goal, .. } = self.tasks.last().unwrap().clone();
        let appended = |appended: Option<u64>| {
            appended.map_or(AttemptSeen::Refused, |_| AttemptSeen::Appended)
        };
        Some(match *step {
            AttemptStep::Accept => {
                if !matches!(goal, Goal::Create { .. }) && self.base.is_none() {
                    self.base = Some(store.status(self.user));
                    return None;
                }
                match store.accept(number, self.user) {
                    Some(head) if self.base == Some(UserStatus::Erased) => {
                        // Both events are in one append.
                        let reason = NoEvent::Refused(UserError::Erased);
                        store.remember(number, head, MemoryEvent::Done(reason));
                        AttemptSeen::Settled(self.user, reason)
                    }
                    Some(head) => AttemptSeen::Turn(self.user, head),
                    None => self.recognised(store, number),
                }
            }
            AttemptStep::ReadMemory => self.recognised(store, number),
            AttemptStep::LookForEvent(user) => AttemptSeen::User {
                status: store.status(user),
                found: store.found(user, number),
            },
            AttemptStep::TakeOver(known) => {
                let resumed = MemoryEvent::Resumed(known.user);
                let head = store.remember(number, known.head, resumed);
                head.map_or(AttemptSeen::Refused, |head| {
                    AttemptSeen::Turn(known.user, head)
                })
            }
            AttemptStep::TakeAnotherId(head) => {
                // Ids of one process, which no other process gets.
                let user = UserId::new(self.user.number() + 1_000);
                let head = store.remember(number, head, MemoryEvent::Resumed(user));
                head.map_or(AttemptSeen::Refused, |head| AttemptSeen::Turn(user, head))
            }
            AttemptStep::Fence { .. } if variation == Variation::RefusesWithoutAFence => {
                AttemptSeen::Appended
            }
            AttemptStep::Fence {
                user,
                fence,
                expected,
            } => appended(store.fence(user, fence, expected)),
            AttemptStep::Remember(reason, head) => {
                let head = if variation == Variation::AnybodyStoresTheOutcome {
                    store.memory_head(number).unwrap()
                } else {
                    head
                };
                appended(store.remember(number, head, MemoryEvent::Done(reason)))
            }
            AttemptStep::Wait | AttemptStep::Run { .. } | AttemptStep::Done(_) => {
                unreachable!("these steps do not touch the store")
            }
        })
    }

    fn recognised(&mut self, store: &Store, number: CommandNumber) -> AttemptSeen {
        self.base = None;
        let known = store.known(number);
        known.map_or(AttemptSeen::Forgotten, AttemptSeen::Known)
    }

    fn reserve(&mut self, step: Step, store: &mut Store, variation: Variation) -> Option<Seen> {
        let number = self.tasks.last().unwrap().number;
        let appended = |revision: Option<u64>| revision.map_or(Seen::Refused, Seen::Appended);
        Some(match step {
            Step::ReadUser(user) if user == self.user => {
                self.status = store.status(user);
                self.committed = store.found(user, number);
                match (
                    self.committed,
                    &self.status,
                    &self.tasks.last().unwrap().goal,
                ) {
                    (None, ..) => Seen::User(self.status.clone()),
                    (
                        Some(_),
                        UserStatus::Erased,
                        Goal::Create { .. } | Goal::Hold { .. } | Goal::Keep,
                    ) => {
                        self.answer(AttemptOutcome::Gone, store);
                        return None;
                    }
                    (Some(_), ..) => Seen::AlreadyCommitted,
                }
            }
            Step::ReadUser(user) => Seen::User(store.status(user)),
            Step::CheckOwner if store.memory_head(number) == Some(self.head) => Seen::Owned,
            Step::CheckOwner => Seen::Superseded,
            Step::ReadReservation(name) => Seen::Reservation(store.holder(&name)),
            Step::Claim {
                reservation,
                expected,
                leaves,
            } => self.claim(store, variation, (&reservation, expected, leaves)),
            Step::Fence { .. } if variation == Variation::TakesOverWithoutAFence => {
                Seen::Appended(0)
            }
            Step::Fence {
                user,
                fence,
                expected,
            } => appended(store.fence(user, fence, expected)),
            Step::Commit { expected, claim } => {
                return self.commit(store, variation, (expected, claim));
            }
            Step::Release(claim) => return self.release(store, variation, &claim),
            Step::Wait | Step::Done(_) => unreachable!("these steps do not touch the store"),
        })
    }

    fn claim(
        &self,
        store: &mut Store,
        variation: Variation,
        (name, expected, leaves): (&ReservationName, Option<u64>, Option<ReservationName>),
    ) -> Seen {
        let leaves = leaves.filter(|_| variation != Variation::ForgetsTheNameThatIsLeft);
        match (variation, expected) {
            (Variation::ReusesAnEarlierClaim, Some(revision))
                if store.holder(name) == Holder::Claimed(self.user, revision) =>
            {
                Seen::Appended(revision)
            }
            _ => {
                let user = self.user;
                let claimed = ReservationEvent::Claimed { user, leaves };
                let appended = store.append_to_reservation(name, expected, claimed);
                appended.map_or(Seen::Refused, Seen::Appended)
            }
        }
    }

    fn commit(
        &mut self,
        store: &mut Store,
        variation: Variation,
        (mut expected, claim): (Option<u64>, Option<Claim>),
    ) -> Option<Seen> {
        if variation == Variation::ReadsTheUserAfterTheClaim && claim.is_some() {
            let Some(found) = self.extra_read.take() else {
                let revision = store.user_revision(self.user);
                self.extra_read = Some(revision.map_or(0, |revision| revision + 1));
                return None;
            };
            expected = found.checked_sub(1);
        }
        let Task { number, goal, .. } = self.tasks.last().unwrap();
        let held = match &self.status {
            UserStatus::Active { claim, .. } => Some(claim.clone()),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        };
        let event = match (goal, claim.clone().or(held)) {
            (Goal::Create { .. } | Goal::Hold { .. } | Goal::Keep, Some(claim)) => {
                ModelEvent::Active(claim)
            }
            (Goal::Delete, Some(_)) => ModelEvent::Deleted,
            (_, None) => {
                self.refusal = Some(match &self.status {
                    UserStatus::Erased => UserError::Erased,
                    UserStatus::Absent | UserStatus::Abandoned | UserStatus::Active { .. } => {
                        UserError::Unknown
                    }
                });
                return Some(Seen::Unchanged);
            }
        };
        let appended = store.append_to_user(self.user, expected, (Some(*number), event));
        self.committed = appended;
        if variation == Variation::ReleasesTheClaimOfARefusedCommit && appended.is_none() {
            self.to_release = claim;
        }
        Some(appended.map_or(Seen::Refused, Seen::Appended))
    }

    fn release(&mut self, store: &mut Store, variation: Variation, claim: &Claim) -> Option<Seen> {
        let name = &claim.reservation;
        let mut release = |revision| {
            let released = ReservationEvent::Released;
            let appended = store.append_to_reservation(name, Some(revision), released);
            Some(appended.map_or(Seen::Refused, Seen::Appended))
        };
        if variation != Variation::ReleasesTheCurrentClaim {
            return release(claim.revision);
        }
        if let Some(revision) = self.extra_read.take() {
            return release(revision);
        }
        match store.holder(name) {
            Holder::Claimed(user, revision) if user == self.user && !store.holds(user, name) => {
                self.extra_read = Some(revision);
                None
            }
            Holder::Nobody(_) | Holder::Claimed(..) => Some(Seen::Refused),
        }
    }
}
