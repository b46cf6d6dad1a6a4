//! All interleavings of rivals over a model of the store, driven by the code itself.
//!
//! The model's appends are idempotent as the server's are. A stop at any step needs no action of its own: in every
//! state that can be reached it is checked that no name has two live users, and that a newcomer who runs alone from there
//! gets every name that nobody lives under, and no other. So that this can be trusted, variations of the protocol that
//! look harmless are explored too, and must be found out.

use super::{Goal, Holder, Reservation, ReservationOutcome, Seen, Step, UserStatus};
use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::Fence;
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher as _, Hash, RandomState};

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum UserEvent {
    /// Created, or patched.
    Lives(Claim),
    Deleted,
    Abandoned,
    Fenced,
}

/// The id of a domain event is that of its command; every other event's is drawn at random, so equal to no other.
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
                (_, UserEvent::Lives(claim)) => UserStatus::Alive {
                    claim: claim.clone(),
                    revision: now,
                },
                (_, UserEvent::Deleted) => UserStatus::Erased,
                (UserStatus::Alive { claim, .. }, UserEvent::Fenced) => UserStatus::Alive {
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

    fn lives_under(&self, user: UserId) -> Option<ReservationName> {
        match self.status(user) {
            UserStatus::Alive { claim, .. } => Some(claim.reservation),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        }
    }

    /// The names that somebody lives under; none if one of them has two.
    fn taken(&self) -> Option<HashSet<ReservationName>> {
        let mut taken = HashSet::new();
        let mut live = self.users.keys().filter_map(|user| self.lives_under(*user));
        live.all(|name| taken.insert(name)).then_some(taken)
    }
}

/// What is explored: the protocol as it is built, or one that looks harmless.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Variation {
    AsBuilt,
    /// A release looks at what is there and at its owner, and releases that.
    ReleasesWhatItFinds,
    /// What the commit expects is read after the claim.
    ReadsItselfAfterTheClaim,
    /// Its own earlier claim is claim enough.
    TrustsItsEarlierClaim,
    /// A refused commit gives its claim back.
    GivesBackWhatWasRefused,
    /// A rival's claim is taken over without a fence.
    TakesOverUnfenced,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Actor {
    me: UserId,
    /// The command's number and goal; those of one user run one after the other in one actor.
    commands: Vec<(u32, Goal)>,
    reservation: Option<Reservation>,
    /// What it read itself last: what the decider is given.
    status: UserStatus,
    /// What a variation found on its way.
    detour: Option<u64>,
    given_back: Option<Claim>,
}

impl Actor {
    fn new(me: u64, commands: &[(u32, Goal)]) -> Self {
        let me = UserId::new(me);
        let mut actor = Self {
            me,
            commands: commands.iter().rev().cloned().collect(),
            reservation: None,
            status: UserStatus::Absent,
            detour: None,
            given_back: None,
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

    /// One read or append. False when there is nothing left to do.
    fn step(&mut self, store: &mut Store, variation: Variation) -> bool {
        let Some(reservation) = &self.reservation else {
            return false;
        };
        if let Some(claim) = self.given_back.take() {
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
            // To wait touches nothing, so it needs no interleaving.
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
                    (Variation::TrustsItsEarlierClaim, Some(revision))
                        if found == Holder::Claimed(self.me, revision) =>
                    {
                        Seen::Appended(revision)
                    }
                    _ => store.claim(&reservation, expected, Some(self.me)),
                }
            }
            Step::Fence { .. } if variation == Variation::TakesOverUnfenced => Seen::Appended(0),
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
            Step::Done(_) => unreachable!("finished before"),
        })
    }

    fn commit(
        &mut self,
        store: &mut Store,
        variation: Variation,
        (mut expected, claim): (Option<u64>, Option<Claim>),
    ) -> Option<Seen> {
        if variation == Variation::ReadsItselfAfterTheClaim && claim.is_some() {
            let Some(found) = self.detour.take() else {
                let stream = store.users.get(&self.me).and_then(Stream::last_revision);
                self.detour = Some(stream.map_or(0, |revision| revision + 1));
                return None;
            };
            expected = found.checked_sub(1);
        }
        let (id, goal) = self.commands.last().unwrap();
        let held = match &self.status {
            UserStatus::Alive { claim, .. } => Some(claim.clone()),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        };
        let event = match (goal, claim.clone().or(held)) {
            (Goal::Create { .. } | Goal::Hold { .. } | Goal::Keep, Some(claim)) => {
                UserEvent::Lives(claim)
            }
            (Goal::Delete, Some(_)) => UserEvent::Deleted,
            (_, None) => {
                self.finish();
                return None;
            }
        };
        let stream = store.users.entry(self.me).or_default();
        let seen = stream.append(expected, Some(*id), event);
        if variation == Variation::GivesBackWhatWasRefused && seen == Seen::Refused {
            self.given_back = claim;
        }
        Some(seen)
    }

    fn release(&mut self, store: &mut Store, variation: Variation, claim: &Claim) -> Option<Seen> {
        let name = &claim.reservation;
        if variation != Variation::ReleasesWhatItFinds {
            return Some(store.claim(name, Some(claim.revision), None));
        }
        if let Some(revision) = self.detour.take() {
            return Some(store.claim(name, Some(revision), None));
        }
        match store.holder(name) {
            Holder::Claimed(user, revision)
                if user == self.me && store.lives_under(user).as_ref() != Some(name) =>
            {
                self.detour = Some(revision);
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
    /// Users who live under names already, and commands on their way.
    fn new(live: &[(u64, &str)], actors: &[Actor]) -> Self {
        let mut store = Store::default();
        for (user, username) in live {
            let me = UserId::new(*user);
            let claim = Claim {
                reservation: name(username),
                revision: 0,
            };
            store.claim(&claim.reservation, None, Some(me));
            let stream = store.users.entry(me).or_default();
            stream.append(None, None, UserEvent::Lives(claim));
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
        formerly: None,
    }
}

/// What is wrong in a state, if anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    TwoLiveUsersUnderOneName,
    AFreeNameCannotBeHad,
    ATakenNameCanBeHad,
}

/// Visits every state that any interleaving leads to, until one has a flaw; returns how many there are.
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
        return Some(Flaw::TwoLiveUsersUnderOneName);
    };
    store.reservations.keys().find_map(|name| {
        match (
            newcomer(store.clone(), name, variation),
            taken.contains(name),
        ) {
            (ReservationOutcome::Committed, false) | (ReservationOutcome::Taken, true) => None,
            (ReservationOutcome::Committed, true) => Some(Flaw::ATakenNameCanBeHad),
            (
                ReservationOutcome::Taken
                | ReservationOutcome::IdUsed
                | ReservationOutcome::Contended,
                _,
            ) => Some(Flaw::AFreeNameCannotBeHad),
        }
    })
}

/// Somebody new asks for the name while nobody else moves.
fn newcomer(mut store: Store, name: &ReservationName, variation: Variation) -> ReservationOutcome {
    let mut actor = Actor::new(99, &[(99, create(name.as_str()))]);
    loop {
        if let Some(Step::Done(outcome)) = actor.reservation.as_ref().map(Reservation::next) {
            return outcome;
        }
        actor.step(&mut store, variation);
    }
}

fn safe(world: &World) {
    match explore(world, Variation::AsBuilt) {
        Ok(states) => assert!(
            states > 100,
            "only {states} states: the scenario is no race"
        ),
        Err((flaw, world)) => panic!("{flaw:?} in {world:#?}"),
    }
}

fn found_out(world: &World, variation: Variation) {
    match explore(world, variation) {
        Err((Flaw::TwoLiveUsersUnderOneName | Flaw::ATakenNameCanBeHad, _)) => {}
        other => panic!(
            "{variation:?} was taken for safe: {:?}",
            other.map_err(|found| found.0)
        ),
    }
}

fn three_creates() -> World {
    let rivals = [1, 2, 3].map(|user| Actor::new(user, &[(1, create("a"))]));
    World::new(&[], &rivals)
}

fn three_creates_of_which_one_reads_first() -> World {
    let goals = [create("a"), create_after_reading("a"), create("a")];
    let rivals = [1, 2, 3]
        .into_iter()
        .zip(goals)
        .map(|(user, goal)| Actor::new(user, &[(1, goal)]));
    World::new(&[], &rivals.collect::<Vec<_>>())
}

fn a_create_its_own_retry_and_a_rival() -> World {
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
    safe(&three_creates());
    safe(&three_creates_of_which_one_reads_first());
}

#[test]
fn a_create_and_its_own_retry_are_safe() {
    safe(&a_create_its_own_retry_and_a_rival());
}

#[test]
fn a_rename_is_safe_among_rivals_for_both_names() {
    safe(&a_rename_with_rivals());
}

#[test]
fn a_swap_of_names_is_safe() {
    safe(&a_swap_with_a_rival());
}

#[test]
fn a_rename_away_and_back_is_safe() {
    safe(&away_and_back_with_rivals());
    safe(&away_and_back_at_once_with_a_rival());
}

#[test]
fn two_renames_of_one_user_are_safe() {
    safe(&two_renames_of_one_user(["b", "c"]));
    safe(&two_renames_of_one_user(["b", "b"]));
}

#[test]
fn a_rename_and_a_deletion_are_safe() {
    safe(&a_rename_and_a_deletion_with_a_rival("a"));
    safe(&a_rename_and_a_deletion_with_a_rival("b"));
}

#[test]
fn a_rename_and_another_change_are_safe() {
    safe(&a_rename_and_another_change_with_a_rival());
}

#[test]
fn releasing_what_is_found_is_found_out() {
    let world = away_and_back_at_once_with_a_rival();
    found_out(&world, Variation::ReleasesWhatItFinds);
}

#[test]
fn reading_itself_after_the_claim_is_found_out() {
    found_out(&three_creates(), Variation::ReadsItselfAfterTheClaim);
    found_out(&a_rename_with_rivals(), Variation::ReadsItselfAfterTheClaim);
}

#[test]
fn trusting_an_earlier_claim_is_found_out() {
    found_out(&a_rename_with_rivals(), Variation::TrustsItsEarlierClaim);
}

#[test]
fn giving_back_what_was_refused_is_found_out() {
    let world = two_renames_of_one_user(["b", "b"]);
    found_out(&world, Variation::GivesBackWhatWasRefused);
}

#[test]
fn taking_over_unfenced_is_found_out() {
    found_out(&three_creates(), Variation::TakesOverUnfenced);
    found_out(&a_rename_with_rivals(), Variation::TakesOverUnfenced);
}
