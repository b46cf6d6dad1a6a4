//! A model checker for the reservation protocol. It runs the real step function through all interleavings of rivals over a
//! model of the store.
//!
//! The model's appends are idempotent, like the server's. In every reachable state the explorer checks that no name has two
//! active users, and that a newcomer who runs alone from there gets every free name and no taken one. So it also covers a
//! process that stops at any step. To prove that the explorer finds flaws, it also explores variations of the protocol that
//! look harmless but are wrong.

use super::{Goal, Holder, Reservation, ReservationOutcome, Seen, Step, UserStatus};
use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::Fence;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum UserEvent {
    /// Created or patched.
    Active(Claim),
    Deleted,
    Abandoned,
    Fenced,
}

/// The id of an event. A domain event has the number of its command. All other events have random ids, which are never equal;
/// they are `None` here.
type EventId = Option<u32>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Stream<E>(Vec<(EventId, E)>);

impl<E> Default for Stream<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E> Stream<E> {
    fn append(&mut self, expected: Option<u64>, id: EventId, event: E) -> Seen {
        let next = expected.map_or(0, |revision| usize::try_from(revision).unwrap() + 1);
        if next == self.0.len() {
            self.0.push((id, event));
        } else if id.is_none() || self.0.get(next).is_none_or(|(stored, _)| *stored != id) {
            return Seen::Refused;
        }
        Seen::Appended(next as u64)
    }

    fn last_revision(&self) -> Option<u64> {
        (self.0.len() as u64).checked_sub(1)
    }
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
struct Store {
    reservations: BTreeMap<ReservationName, Stream<Option<UserId>>>,
    users: BTreeMap<UserId, Stream<UserEvent>>,
}

impl Store {
    fn status(&self, user: UserId) -> UserStatus {
        let Some(stream) = self.users.get(&user) else {
            return UserStatus::Absent;
        };
        let mut status = UserStatus::Absent;
        for (index, (_, event)) in stream.0.iter().enumerate() {
            let now = index as u64;
            status = match (status, event) {
                (_, UserEvent::Active(claim)) => UserStatus::Active {
                    claim: claim.clone(),
                    revision: now,
                },
                (_, UserEvent::Deleted) => UserStatus::Erased,
                (UserStatus::Active { claim, .. }, UserEvent::Fenced) => UserStatus::Active {
                    claim,
                    revision: now,
                },
                (_, UserEvent::Abandoned | UserEvent::Fenced) => UserStatus::Abandoned,
            };
        }
        status
    }

    fn holder(&self, name: &ReservationName) -> Holder {
        let stream = self.reservations.get(name);
        match stream.and_then(|stream| stream.0.last().map(|last| (last.1, stream))) {
            Some((Some(user), stream)) => Holder::Claimed(user, stream.0.len() as u64 - 1),
            Some((None, stream)) => Holder::Nobody(stream.last_revision()),
            None => Holder::Nobody(None),
        }
    }

    fn claim(&mut self, name: &ReservationName, expected: Option<u64>, by: Option<UserId>) -> Seen {
        let stream = self.reservations.entry(name.clone()).or_default();
        stream.append(expected, None, by)
    }

    fn name_of(&self, user: UserId) -> Option<ReservationName> {
        match self.status(user) {
            UserStatus::Active { claim, .. } => Some(claim.reservation),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        }
    }

    /// The names of all active users. `None` if two of them have the same name.
    fn taken(&self) -> Option<HashSet<ReservationName>> {
        let mut taken = HashSet::new();
        let mut names = self.users.keys().filter_map(|user| self.name_of(*user));
        names.all(|name| taken.insert(name)).then_some(taken)
    }
}

/// The protocol that is explored: the real one, or a variation that looks harmless.
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
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Actor {
    me: UserId,
    /// The number and the goal of each command. The commands of one actor run one after the other.
    commands: Vec<(u32, Goal)>,
    reservation: Option<Reservation>,
    /// The user's status at the last read. The decider uses it.
    status: UserStatus,
    /// The revision that the extra read of a variation found.
    extra_read: Option<u64>,
    to_release: Option<Claim>,
}

impl Actor {
    fn new(me: u64, commands: &[(u32, Goal)]) -> Self {
        let me = UserId::new(me);
        let mut actor = Self {
            me,
            commands: commands.iter().rev().cloned().collect(),
            reservation: None,
            status: UserStatus::Absent,
            extra_read: None,
            to_release: None,
        };
        actor.start();
        actor
    }

    fn start(&mut self) {
        let command = self.commands.last();
        self.reservation = command.map(|(_, goal)| Reservation::new(self.me, goal.clone(), 2));
        self.status = UserStatus::Absent;
    }

    fn finish(&mut self) {
        self.commands.pop();
        self.start();
    }

    /// Performs one read or append. Returns false if nothing is left to do.
    fn step(&mut self, store: &mut Store, variation: Variation) -> bool {
        let Some(reservation) = &self.reservation else {
            return false;
        };
        if let Some(claim) = self.to_release.take() {
            store.claim(&claim.reservation, Some(claim.revision), None);
            return true;
        }
        let step = reservation.next();
        if let Step::Done(_) = step {
            self.finish();
            return self.step(store, variation);
        }
        let Some(seen) = self.execute(step, store, variation) else {
            return true;
        };
        let Some(reservation) = &mut self.reservation else {
            return true;
        };
        reservation.observe(seen);
        if reservation.next() == Step::Wait {
            // A wait does not touch the store, so it needs no interleaving.
            reservation.observe(Seen::Waited);
        }
        true
    }

    fn execute(&mut self, step: Step, store: &mut Store, variation: Variation) -> Option<Seen> {
        Some(match step {
            Step::ReadUser(user) => {
                let status = store.status(user);
                if user == self.me {
                    self.status = status.clone();
                    if self.is_committed(store) {
                        return Some(Seen::AlreadyCommitted);
                    }
                }
                Seen::User(status)
            }
            Step::ReadReservation(name) => Seen::Reservation(store.holder(&name)),
            Step::Claim {
                reservation,
                expected,
            } => {
                let found = store.holder(&reservation);
                match (variation, expected) {
                    (Variation::ReusesAnEarlierClaim, Some(revision))
                        if found == Holder::Claimed(self.me, revision) =>
                    {
                        Seen::Appended(revision)
                    }
                    _ => store.claim(&reservation, expected, Some(self.me)),
                }
            }
            Step::Fence { .. } if variation == Variation::TakesOverWithoutAFence => {
                Seen::Appended(0)
            }
            Step::Fence {
                user,
                fence,
                expected,
            } => {
                let event = match fence {
                    Fence::RegistrationAbandoned => UserEvent::Abandoned,
                    Fence::RenameFenced => UserEvent::Fenced,
                };
                store
                    .users
                    .entry(user)
                    .or_default()
                    .append(expected, None, event)
            }
            Step::Commit { expected, claim } => {
                return self.commit(store, variation, (expected, claim));
            }
            Step::Release(claim) => return self.release(store, variation, &claim),
            Step::Wait => Seen::Waited,
            Step::Done(_) => unreachable!("a finished command has no step"),
        })
    }

    /// Whether the user's stream has the event of the running command, which then belongs to a retry of it.
    fn is_committed(&self, store: &Store) -> bool {
        let command = self.commands.last().map(|(id, _)| *id);
        let stream = store.users.get(&self.me);
        stream.is_some_and(|stream| {
            stream
                .0
                .iter()
                .any(|(id, _)| id.is_some() && *id == command)
        })
    }

    fn commit(
        &mut self,
        store: &mut Store,
        variation: Variation,
        (mut expected, claim): (Option<u64>, Option<Claim>),
    ) -> Option<Seen> {
        if variation == Variation::ReadsTheUserAfterTheClaim && claim.is_some() {
            let Some(found) = self.extra_read.take() else {
                let stream = store.users.get(&self.me).and_then(Stream::last_revision);
                self.extra_read = Some(stream.map_or(0, |revision| revision + 1));
                return None;
            };
            expected = found.checked_sub(1);
        }
        let (id, goal) = self.commands.last().unwrap();
        let held = match &self.status {
            UserStatus::Active { claim, .. } => Some(claim.clone()),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        };
        let event = match (goal, claim.clone().or(held)) {
            (Goal::Create { .. } | Goal::Hold { .. } | Goal::Keep, Some(claim)) => {
                UserEvent::Active(claim)
            }
            (Goal::Delete, Some(_)) => UserEvent::Deleted,
            (_, None) => {
                self.finish();
                return None;
            }
        };
        let stream = store.users.entry(self.me).or_default();
        let seen = stream.append(expected, Some(*id), event);
        if variation == Variation::ReleasesTheClaimOfARefusedCommit && seen == Seen::Refused {
            self.to_release = claim;
        }
        Some(seen)
    }

    fn release(&mut self, store: &mut Store, variation: Variation, claim: &Claim) -> Option<Seen> {
        let name = &claim.reservation;
        if variation != Variation::ReleasesTheCurrentClaim {
            return Some(store.claim(name, Some(claim.revision), None));
        }
        if let Some(revision) = self.extra_read.take() {
            return Some(store.claim(name, Some(revision), None));
        }
        match store.holder(name) {
            Holder::Claimed(user, revision)
                if user == self.me && store.name_of(user).as_ref() != Some(name) =>
            {
                self.extra_read = Some(revision);
                None
            }
            Holder::Nobody(_) | Holder::Claimed(..) => Some(Seen::Refused),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct World {
    store: Store,
    actors: Vec<Actor>,
}

impl World {
    /// A world with active users and running commands.
    fn new(active: &[(u64, &str)], actors: &[Actor]) -> Self {
        let mut store = Store::default();
        for (user, username) in active {
            let me = UserId::new(*user);
            let claim = Claim {
                reservation: name(username),
                revision: 0,
            };
            store.claim(&claim.reservation, None, Some(me));
            let stream = store.users.entry(me).or_default();
            stream.append(None, None, UserEvent::Active(claim));
        }
        Self {
            store,
            actors: actors.to_vec(),
        }
    }
}

fn name(name: &str) -> ReservationName {
    ReservationName::new(name)
}

fn create(username: &str) -> Goal {
    Goal::Create {
        name: name(username),
        read_first: false,
    }
}

fn create_after_reading(username: &str) -> Goal {
    Goal::Create {
        name: name(username),
        read_first: true,
    }
}

fn hold(username: &str) -> Goal {
    Goal::Hold {
        name: name(username),
        former_name: None,
    }
}

/// A flaw of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    TwoActiveUsersWithOneName,
    AFreeNameIsRefused,
    ATakenNameIsGiven,
}

/// Visits every reachable state until one has a flaw. Returns the number of states.
fn explore(world: &World, variation: Variation) -> Result<usize, (Flaw, World)> {
    let hasher = RandomState::new();
    let mut seen = HashSet::from([hasher.hash_one(world)]);
    let mut stores = HashSet::new();
    let mut stack = vec![world.clone()];
    while let Some(world) = stack.pop() {
        if stores.insert(hasher.hash_one(&world.store))
            && let Some(flaw) = flaw(&world.store, variation)
        {
            return Err((flaw, world));
        }
        for index in 0..world.actors.len() {
            let mut next = world.clone();
            let acted = next.actors[index].step(&mut next.store, variation);
            if acted && seen.insert(hasher.hash_one(&next)) {
                stack.push(next);
            }
        }
    }
    Ok(seen.len())
}

fn flaw(store: &Store, variation: Variation) -> Option<Flaw> {
    let Some(taken) = store.taken() else {
        return Some(Flaw::TwoActiveUsersWithOneName);
    };
    store.reservations.keys().find_map(|name| {
        match (
            newcomer(store.clone(), name, variation),
            taken.contains(name),
        ) {
            (ReservationOutcome::Committed, false) | (ReservationOutcome::Taken, true) => None,
            (ReservationOutcome::Committed, true) => Some(Flaw::ATakenNameIsGiven),
            (
                ReservationOutcome::Taken
                | ReservationOutcome::IdUsed
                | ReservationOutcome::Contended,
                _,
            ) => Some(Flaw::AFreeNameIsRefused),
        }
    })
}

/// The outcome of a creation by a new user while no other actor moves.
fn newcomer(mut store: Store, name: &ReservationName, variation: Variation) -> ReservationOutcome {
    let mut actor = Actor::new(99, &[(99, create(name.as_str()))]);
    loop {
        if let Some(Step::Done(outcome)) = actor.reservation.as_ref().map(Reservation::next) {
            return outcome;
        }
        actor.step(&mut store, variation);
    }
}

fn assert_safe(world: &World) {
    match explore(world, Variation::Real) {
        Ok(states) => assert!(
            states > 100,
            "the scenario has only {states} states, so it is not a race"
        ),
        Err((flaw, world)) => panic!("{flaw:?} in {world:#?}"),
    }
}

fn assert_finds_the_flaw(world: &World, variation: Variation) {
    match explore(world, variation) {
        Err((Flaw::TwoActiveUsersWithOneName | Flaw::ATakenNameIsGiven, _)) => {}
        other => panic!(
            "the flaw of {variation:?} was not found: {:?}",
            other.map_err(|found| found.0)
        ),
    }
}

fn three_creates() -> World {
    let rivals = [1, 2, 3].map(|user| Actor::new(user, &[(1, create("a"))]));
    World::new(&[], &rivals)
}

fn three_creates_one_of_which_reads_first() -> World {
    let goals = [create("a"), create_after_reading("a"), create("a")];
    let rivals = [1, 2, 3]
        .into_iter()
        .zip(goals)
        .map(|(user, goal)| Actor::new(user, &[(1, goal)]));
    World::new(&[], &rivals.collect::<Vec<_>>())
}

fn a_create_with_its_own_retry_and_a_rival() -> World {
    let create = [(1, create("a"))];
    World::new(&[], &[1, 1, 2].map(|user| Actor::new(user, &create)))
}

fn a_rename_with_rivals() -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(2, &[(2, create("b"))]),
            Actor::new(3, &[(3, create("a"))]),
        ],
    )
}

fn a_rename_with_its_own_retry_and_a_rival() -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(2, &[(2, create("b"))]),
        ],
    )
}

fn a_swap_with_a_rival() -> World {
    World::new(
        &[(1, "a"), (2, "b")],
        &[
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(2, &[(2, hold("c")), (3, hold("a"))]),
            Actor::new(3, &[(4, create("a"))]),
        ],
    )
}

fn away_and_back_with_rivals() -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold("b")), (2, hold("a"))]),
            Actor::new(2, &[(3, create("b"))]),
            Actor::new(3, &[(4, create("a"))]),
        ],
    )
}

fn away_and_back_at_once_with_a_rival() -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(1, &[(2, hold("a"))]),
            Actor::new(2, &[(3, create("a"))]),
        ],
    )
}

fn two_renames_of_one_user(to: [&str; 2]) -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold(to[0]))]),
            Actor::new(1, &[(2, hold(to[1]))]),
            Actor::new(2, &[(3, create("b"))]),
        ],
    )
}

fn a_rename_and_a_deletion_with_a_rival(rival: &str) -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(1, &[(2, Goal::Delete)]),
            Actor::new(2, &[(3, create(rival))]),
        ],
    )
}

fn a_rename_and_another_change_with_a_rival() -> World {
    World::new(
        &[(1, "a")],
        &[
            Actor::new(1, &[(1, hold("b"))]),
            Actor::new(1, &[(2, Goal::Keep)]),
            Actor::new(2, &[(3, create("b"))]),
        ],
    )
}

#[test]
fn three_creates_of_one_name_are_safe() {
    assert_safe(&three_creates());
    assert_safe(&three_creates_one_of_which_reads_first());
}

#[test]
fn a_create_and_its_own_retry_are_safe() {
    assert_safe(&a_create_with_its_own_retry_and_a_rival());
}

#[test]
fn a_rename_is_safe_among_rivals_for_both_names() {
    assert_safe(&a_rename_with_rivals());
}

#[test]
fn a_rename_and_its_own_retry_are_safe() {
    assert_safe(&a_rename_with_its_own_retry_and_a_rival());
}

#[test]
fn a_swap_of_names_is_safe() {
    assert_safe(&a_swap_with_a_rival());
}

#[test]
fn a_rename_away_and_back_is_safe() {
    assert_safe(&away_and_back_with_rivals());
    assert_safe(&away_and_back_at_once_with_a_rival());
}

#[test]
fn two_renames_of_one_user_are_safe() {
    assert_safe(&two_renames_of_one_user(["b", "c"]));
    assert_safe(&two_renames_of_one_user(["b", "b"]));
}

#[test]
fn a_rename_and_a_deletion_are_safe() {
    assert_safe(&a_rename_and_a_deletion_with_a_rival("a"));
    assert_safe(&a_rename_and_a_deletion_with_a_rival("b"));
}

#[test]
fn a_rename_and_another_change_are_safe() {
    assert_safe(&a_rename_and_another_change_with_a_rival());
}

#[test]
fn releasing_the_current_claim_is_found_to_be_unsafe() {
    let world = away_and_back_at_once_with_a_rival();
    assert_finds_the_flaw(&world, Variation::ReleasesTheCurrentClaim);
}

#[test]
fn reading_the_user_after_the_claim_is_found_to_be_unsafe() {
    assert_finds_the_flaw(&three_creates(), Variation::ReadsTheUserAfterTheClaim);
    assert_finds_the_flaw(
        &a_rename_with_rivals(),
        Variation::ReadsTheUserAfterTheClaim,
    );
}

#[test]
fn reusing_an_earlier_claim_is_found_to_be_unsafe() {
    assert_finds_the_flaw(&a_rename_with_rivals(), Variation::ReusesAnEarlierClaim);
}

#[test]
fn releasing_the_claim_of_a_refused_commit_is_found_to_be_unsafe() {
    let world = two_renames_of_one_user(["b", "b"]);
    assert_finds_the_flaw(&world, Variation::ReleasesTheClaimOfARefusedCommit);
}

#[test]
fn taking_over_without_a_fence_is_found_to_be_unsafe() {
    assert_finds_the_flaw(&three_creates(), Variation::TakesOverWithoutAFence);
    assert_finds_the_flaw(&a_rename_with_rivals(), Variation::TakesOverWithoutAFence);
}
