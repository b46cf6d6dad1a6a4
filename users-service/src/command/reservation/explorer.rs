//! A model checker for everything that decides about usernames. It runs the real step functions through all interleavings over
//! a model of the store: the reservation protocol, the attempts at a command with a key, the sweep, and the release of an
//! erasure.
//!
//! In every reachable state the explorer checks that
//! - no name has two active users;
//! - a newcomer who runs alone from there gets every free name and no taken one;
//! - a command with a key has one outcome, which agrees with all answers, and somebody who repeats the command alone from there
//!   is answered too;
//! - if everybody else stops there, the sweep leaves no claim whose owner does not hold it, and takes no name from anybody.
//!
//! So it also covers processes that stop at any step. To prove that the explorer finds flaws, it also explores variations that
//! look harmless but are wrong.

mod contender;
mod model;
mod scenarios;
mod sweeping;

use super::Goal;
use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::ReservationEvent;
use contender::{Contender, Task};
use model::{ModelEvent, Store};
use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};
use std::rc::Rc;
use sweeping::{Cleaner, Eraser, Move, Sweeper};

/// What is explored: the real steps, or a variation that looks harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Variation {
    Real,
    /// A release reads the current claim, and releases it if its owner does not use the name.
    ReleasesTheCurrentClaim,
    /// The revision that the commit expects is read after the claim.
    ReadsTheUserAfterTheClaim,
    /// A user's earlier claim is used instead of a new one.
    ReusesAnEarlierClaim,
    /// The claim of a refused commit is released.
    ReleasesTheClaimOfARefusedCommit,
    /// A rival's claim is taken over without a fence.
    TakesOverWithoutAFence,
    /// The claim of a rename does not name the reservation that the user leaves.
    ForgetsTheNameThatIsLeft,
    /// The sweep releases a claim without fencing an owner who has another name.
    SweepsWithoutAFence,
    /// The sweep releases a claim without fencing an owner who does not exist.
    SweepsWithoutFencingTheAbsent,
    /// The sweep's release expects no revision.
    SweepsAtAnyRevision,
    /// The eraser releases only the claim that the erased user had committed.
    ErasesOnlyTheCommittedClaim,
    /// A process that was refused goes on although another one has taken over the command.
    RetriesWithoutAnOwnershipCheck,
    /// A process that took over a command refuses it although the former owner may still commit it.
    RefusesWithoutAFence,
    /// A process stores an outcome although another one has taken over the command.
    AnybodyStoresTheOutcome,
    /// A process that took over a creation does not look whether the former owner has made the user.
    NeverReadsANewUserFirst,
}

impl Variation {
    /// Whether the sweep omits a fence that expects this revision.
    fn spares_a_fence(self, expected: Option<u64>) -> bool {
        let spared = if expected.is_some() {
            Self::SweepsWithoutAFence
        } else {
            Self::SweepsWithoutFencingTheAbsent
        };
        self == spared
    }
}

/// A state.
#[derive(Debug, Clone)]
struct World {
    store: Store,
    contenders: Vec<Contender>,
    cleaners: Cleaners,
    /// The commands with a key, and their users.
    keyed: Rc<[(UserId, Task)]>,
}

/// Who sweeps and erases beside the contenders.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Cleaners {
    Nobody,
    /// Anybody at any time.
    Anybody(Cleaner),
    /// The sweep and the eraser, which follow the log.
    Followers(Box<(Sweeper, Eraser)>),
}

impl World {
    /// A world with active users and running commands.
    fn new(active: &[(u64, &str)], contenders: &[Contender]) -> Self {
        Self::with(Store::default(), active, contenders)
    }

    fn with(mut store: Store, active: &[(u64, &str)], contenders: &[Contender]) -> Self {
        for (user, username) in active {
            let user = UserId::new(*user);
            let claim = Claim {
                reservation: name(username),
                revision: 0,
            };
            let claimed = ReservationEvent::claimed(user);
            store.append_to_reservation(&claim.reservation, None, claimed);
            store.append_to_user(user, None, (None, ModelEvent::Active(claim)));
        }
        let keyed = contenders.iter().flat_map(Contender::keyed).collect();
        Self {
            store,
            contenders: contenders.to_vec(),
            cleaners: Cleaners::Nobody,
            keyed,
        }
    }

    /// A world in which commands with a key are repeated.
    fn with_keys(active: &[(u64, &str)], contenders: &[Contender]) -> Self {
        Self::new(active, &within(1, 1, contenders))
    }

    /// The same world, in which any claim may be swept, and any deletion be finished, at any time.
    fn with_cleaner(active: &[(u64, &str)], contenders: &[Contender], refusals: u32) -> Self {
        Self {
            cleaners: Cleaners::Anybody(Cleaner::default()),
            ..Self::new(active, &within(refusals, 0, contenders))
        }
    }

    /// The same world, in which the sweep and the eraser follow the log meanwhile.
    fn with_followers(active: &[(u64, &str)], contenders: &[Contender]) -> Self {
        Self {
            cleaners: Cleaners::Followers(Box::default()),
            ..Self::with(Store::logging(), active, &within(1, 0, contenders))
        }
    }

    /// Another claim of a user who holds the name, as two processes make that execute one command.
    fn claim_again(&mut self, user: u64, username: &str) {
        let claimed = ReservationEvent::claimed(UserId::new(user));
        let appended = self
            .store
            .append_to_reservation(&name(username), Some(0), claimed);
        assert_eq!(appended, Some(1));
    }

    /// The states that follow this one.
    fn next(&self, variation: Variation) -> Vec<Self> {
        let mut next = Vec::new();
        for index in 0..self.contenders.len() {
            let mut world = self.clone();
            if world.contenders[index].step(&mut world.store, variation) {
                next.push(world);
            }
        }
        match &self.cleaners {
            Cleaners::Nobody => {}
            Cleaners::Anybody(cleaner) => {
                let choices = cleaner.choices(&self.store, variation);
                let after = |(cleaner, store)| self.after(store, Cleaners::Anybody(cleaner));
                next.extend(choices.into_iter().map(after));
            }
            Cleaners::Followers(followers) => {
                for choice in [Move::Next, Move::LookAgain] {
                    let (mut store, mut followers) = (self.store.clone(), followers.clone());
                    if followers.0.step(&mut store, choice, variation) {
                        next.push(self.after(store, Cleaners::Followers(followers)));
                    }
                }
                let (mut store, mut followers) = (self.store.clone(), followers.clone());
                if followers.1.step(&mut store, variation) {
                    next.push(self.after(store, Cleaners::Followers(followers)));
                }
            }
        }
        next
    }

    fn after(&self, store: Store, cleaners: Cleaners) -> Self {
        Self {
            store,
            cleaners,
            ..self.clone()
        }
    }

    /// Equal for equal states. Contenders with the same commands and the same user are interchangeable.
    fn key(&self, hasher: &RandomState) -> u64 {
        let contenders = self.contenders.iter();
        let contenders = contenders.map(|contender| hasher.hash_one(contender));
        let contenders = contenders.fold(0, u64::wrapping_add);
        hasher.hash_one((&self.store, &self.cleaners, contenders))
    }

    /// The part of the state on which its flaws depend.
    fn examined(&self) -> (&Store, Option<&Cleaners>) {
        match &self.cleaners {
            Cleaners::Nobody | Cleaners::Anybody(_) => (&self.store, None),
            followers @ Cleaners::Followers(..) => (&self.store, Some(followers)),
        }
    }

    fn flaw(&self, variation: Variation) -> Option<Flaw> {
        let Some(taken) = self.store.taken() else {
            return Some(Flaw::TwoActiveUsersWithOneName);
        };
        if self.store.is_contradicted || self.store.is_executed_wrongly() {
            return Some(Flaw::TwoOutcomes);
        }
        let newcomers = self.store.names().into_iter().find_map(|name| {
            let is_free = !taken.contains_key(&name);
            let gets_it = newcomer_gets(self.store.clone(), &name, variation);
            match (is_free, gets_it) {
                (true, false) => Some(Flaw::AFreeNameIsRefused),
                (false, true) => Some(Flaw::ATakenNameIsGiven),
                (true, true) | (false, false) => None,
            }
        });
        newcomers
            .or_else(|| self.repeats_wrongly(variation))
            .or_else(|| self.is_swept_wrongly(variation))
    }

    /// Repeats each command with a key alone.
    fn repeats_wrongly(&self, variation: Variation) -> Option<Flaw> {
        self.keyed.iter().find_map(|(user, task)| {
            let mut store = self.store.clone();
            let user = match task.goal {
                Goal::Create { .. } => REPEATER,
                Goal::Hold { .. } | Goal::Keep | Goal::Delete => *user,
            };
            let is_contended = run_alone(user, task, &mut store, variation);
            if store.is_contradicted || store.is_executed_wrongly() {
                Some(Flaw::TwoOutcomes)
            } else if is_contended {
                Some(Flaw::NoOutcome)
            } else {
                None
            }
        })
    }

    /// Lets the sweep and the eraser run alone to their end.
    fn is_swept_wrongly(&self, variation: Variation) -> Option<Flaw> {
        let mut store = self.store.clone();
        let (mut sweeper, mut eraser) = match &self.cleaners {
            Cleaners::Nobody | Cleaners::Anybody(_) => Default::default(),
            Cleaners::Followers(followers) => (**followers).clone(),
        };
        eraser.finish(&mut store, variation);
        sweeper.finish(&mut store, variation);
        if store.taken() != self.store.taken() {
            Some(Flaw::ANameIsTakenAway)
        } else if store.has_a_claim_that_holds_nothing() {
            Some(Flaw::AClaimIsLeftBehind)
        } else {
            None
        }
    }
}

fn within(refusals: u32, follows: u32, contenders: &[Contender]) -> Vec<Contender> {
    let contenders = contenders.iter();
    contenders
        .map(|contender| contender.within(refusals, follows))
        .collect()
}

/// A user whom nobody else knows.
const NEWCOMER: UserId = UserId::new(99);
/// The id that a process would use which repeats a creation.
const REPEATER: UserId = UserId::new(98);

/// A flaw of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    TwoActiveUsersWithOneName,
    AFreeNameIsRefused,
    ATakenNameIsGiven,
    /// A command with a key has two events, or two callers were told different things about it.
    TwoOutcomes,
    /// A command with a key is not decided although nobody else does anything.
    NoOutcome,
    /// The sweep changes who holds a name.
    ANameIsTakenAway,
    /// A claim of a user who does not hold the name is left after the sweep.
    AClaimIsLeftBehind,
}

fn name(name: &str) -> ReservationName {
    ReservationName::new(name)
}

/// Executes the command while nobody else does anything. Returns whether the caller is told to try again.
fn run_alone(user: UserId, task: &Task, store: &mut Store, variation: Variation) -> bool {
    let mut contender = Contender::alone(user, task.clone());
    while contender.step(store, variation) {}
    contender.is_contended()
}

/// Whether a new user gets the name while nobody else does anything.
fn newcomer_gets(mut store: Store, name: &ReservationName, variation: Variation) -> bool {
    let goal = Goal::Create {
        name: name.clone(),
        read_first: false,
    };
    let task = Task::without_key(NEWCOMER_COMMAND, goal);
    run_alone(NEWCOMER, &task, &mut store, variation);
    store.holds(NEWCOMER, name)
}

/// The number of a newcomer's command.
const NEWCOMER_COMMAND: u32 = 99;

/// Visits every reachable state until one has a flaw. Returns the number of states.
fn explore(world: &World, variation: Variation) -> Result<usize, (Flaw, Box<World>)> {
    let hasher = RandomState::new();
    let mut seen = HashSet::from([world.key(&hasher)]);
    let mut examined = HashSet::new();
    let mut stack = vec![world.clone()];
    while let Some(world) = stack.pop() {
        if examined.insert(hasher.hash_one(world.examined()))
            && let Some(flaw) = world.flaw(variation)
        {
            return Err((flaw, Box::new(world)));
        }
        for next in world.next(variation) {
            if seen.insert(next.key(&hasher)) {
                stack.push(next);
            }
        }
    }
    Ok(seen.len())
}
