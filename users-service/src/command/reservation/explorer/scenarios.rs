//! The scenarios that are explored.

use super::contender::{Contender, Task};
use super::{Flaw, Variation, World, explore, name};
use crate::command::reservation::Goal;

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

/// A process that executes these commands without a key.
fn process(user: u64, commands: &[(u32, Goal)]) -> Contender {
    let tasks = commands.iter().cloned();
    let tasks: Vec<_> = tasks
        .map(|(number, goal)| Task::without_key(number, goal))
        .collect();
    Contender::new(user, &tasks)
}

/// Processes that execute one command with a key, all for this user.
fn repeated(user: u64, number: u32, goal: &Goal) -> [Contender; 2] {
    [user, user].map(|user| Contender::new(user, &[Task::with_key(number, goal.clone())]))
}

/// Processes that execute one creation with a key. Each brings an id of its own.
fn repeated_creation(users: [u64; 2], number: u32, username: &str) -> [Contender; 2] {
    users.map(|user| Contender::new(user, &[Task::with_key(number, create(username))]))
}

fn assert_safe(world: &World, at_least: usize) {
    match explore(world, Variation::Real) {
        Ok(states) => assert!(states >= at_least, "there are only {states} states"),
        Err((flaw, world)) => panic!("{flaw:?} in {world:#?}"),
    }
}

fn assert_finds(flaws: &[Flaw], world: &World, variation: Variation) {
    match explore(world, variation) {
        Err((flaw, _)) if flaws.contains(&flaw) => {}
        other => panic!(
            "the flaw of {variation:?} was not found: {:?}",
            other.map_err(|found| found.0)
        ),
    }
}

fn assert_finds_two_holders(world: &World, variation: Variation) {
    let flaws = [Flaw::TwoActiveUsersWithOneName, Flaw::ATakenNameIsGiven];
    assert_finds(&flaws, world, variation);
}

mod worlds {
    use super::*;

    pub(super) fn three_creates() -> World {
        let rivals = [1, 2, 3].map(|user| process(user, &[(1, create("a"))]));
        World::new(&[], &rivals)
    }

    pub(super) fn three_creates_one_of_which_reads_first() -> World {
        let goals = [create("a"), create_after_reading("a"), create("a")];
        let rivals = [1, 2, 3]
            .into_iter()
            .zip(goals)
            .map(|(user, goal)| process(user, &[(1, goal)]));
        World::new(&[], &rivals.collect::<Vec<_>>())
    }

    pub(super) fn a_create_with_its_own_retry_and_a_rival() -> World {
        let create = [(1, create("a"))];
        World::new(&[], &[1, 1, 2].map(|user| process(user, &create)))
    }

    pub(super) fn rename_with_rivals() -> [Contender; 3] {
        [
            process(1, &[(1, hold("b"))]),
            process(2, &[(2, create("b"))]),
            process(3, &[(3, create("a"))]),
        ]
    }

    pub(super) fn a_rename_with_rivals() -> World {
        World::new(&[(1, "a")], &rename_with_rivals())
    }

    pub(super) fn a_rename_with_its_own_retry_and_a_rival() -> World {
        World::new(
            &[(1, "a")],
            &[
                process(1, &[(1, hold("b"))]),
                process(1, &[(1, hold("b"))]),
                process(2, &[(2, create("b"))]),
            ],
        )
    }

    pub(super) fn a_swap_with_a_rival() -> World {
        World::new(
            &[(1, "a"), (2, "b")],
            &[
                process(1, &[(1, hold("b"))]),
                process(2, &[(2, hold("c")), (3, hold("a"))]),
                process(3, &[(4, create("a"))]),
            ],
        )
    }

    pub(super) fn away_and_back_with_rivals() -> World {
        World::new(
            &[(1, "a")],
            &[
                process(1, &[(1, hold("b")), (2, hold("a"))]),
                process(2, &[(3, create("b"))]),
                process(3, &[(4, create("a"))]),
            ],
        )
    }

    pub(super) fn away_and_back_at_once_with_a_rival() -> World {
        World::new(
            &[(1, "a")],
            &[
                process(1, &[(1, hold("b"))]),
                process(1, &[(2, hold("a"))]),
                process(2, &[(3, create("a"))]),
            ],
        )
    }

    pub(super) fn two_renames_of_one_user(to: [&str; 2]) -> World {
        World::new(
            &[(1, "a")],
            &[
                process(1, &[(1, hold(to[0]))]),
                process(1, &[(2, hold(to[1]))]),
                process(2, &[(3, create("b"))]),
            ],
        )
    }

    pub(super) fn a_rename_and_a_deletion_with_a_rival(rival: &str) -> World {
        World::new(
            &[(1, "a")],
            &[
                process(1, &[(1, hold("b"))]),
                process(1, &[(2, Goal::Delete)]),
                process(2, &[(3, create(rival))]),
            ],
        )
    }

    pub(super) fn a_rename_and_another_change_with_a_rival() -> World {
        World::new(
            &[(1, "a")],
            &[
                process(1, &[(1, hold("b"))]),
                process(1, &[(2, Goal::Keep)]),
                process(2, &[(3, create("b"))]),
            ],
        )
    }
}

use worlds::*;

#[test]
fn three_creates_of_one_name_are_safe() {
    assert_safe(&three_creates(), 1_500);
    assert_safe(&three_creates_one_of_which_reads_first(), 2_000);
}

#[test]
fn a_create_and_its_own_retry_are_safe() {
    assert_safe(&a_create_with_its_own_retry_and_a_rival(), 400);
}

#[test]
fn a_rename_is_safe_among_rivals_for_both_names() {
    assert_safe(&a_rename_with_rivals(), 1_200);
}

#[test]
fn a_rename_and_its_own_retry_are_safe() {
    assert_safe(&a_rename_with_its_own_retry_and_a_rival(), 25_000);
}

#[test]
fn a_swap_of_names_is_safe() {
    assert_safe(&a_swap_with_a_rival(), 9_000);
}

#[test]
fn a_rename_away_and_back_is_safe() {
    assert_safe(&away_and_back_with_rivals(), 30_000);
    assert_safe(&away_and_back_at_once_with_a_rival(), 2_500);
}

#[test]
fn two_renames_of_one_user_are_safe() {
    assert_safe(&two_renames_of_one_user(["b", "c"]), 7_000);
    assert_safe(&two_renames_of_one_user(["b", "b"]), 50_000);
}

#[test]
fn a_rename_and_a_deletion_are_safe() {
    assert_safe(&a_rename_and_a_deletion_with_a_rival("a"), 500);
    assert_safe(&a_rename_and_a_deletion_with_a_rival("b"), 2_000);
}

#[test]
fn a_rename_and_another_change_are_safe() {
    assert_safe(&a_rename_and_another_change_with_a_rival(), 2_500);
}

#[test]
fn releasing_the_current_claim_is_found_to_be_unsafe() {
    let world = away_and_back_at_once_with_a_rival();
    assert_finds_two_holders(&world, Variation::ReleasesTheCurrentClaim);
}

#[test]
fn reading_the_user_after_the_claim_is_found_to_be_unsafe() {
    let variation = Variation::ReadsTheUserAfterTheClaim;
    assert_finds_two_holders(&three_creates(), variation);
    assert_finds_two_holders(&a_rename_with_rivals(), variation);
}

#[test]
fn reusing_an_earlier_claim_is_found_to_be_unsafe() {
    assert_finds_two_holders(&a_rename_with_rivals(), Variation::ReusesAnEarlierClaim);
}

#[test]
fn releasing_the_claim_of_a_refused_commit_is_found_to_be_unsafe() {
    let world = two_renames_of_one_user(["b", "b"]);
    assert_finds_two_holders(&world, Variation::ReleasesTheClaimOfARefusedCommit);
}

#[test]
fn taking_over_without_a_fence_is_found_to_be_unsafe() {
    assert_finds_two_holders(&three_creates(), Variation::TakesOverWithoutAFence);
    assert_finds_two_holders(&a_rename_with_rivals(), Variation::TakesOverWithoutAFence);
}

mod worlds_with_keys {
    use super::*;

    pub(super) fn a_repeated_creation_with_a_rival() -> World {
        let [first, second] = repeated_creation([1, 2], 1, "a");
        let rival = process(3, &[(2, create("a"))]);
        World::with_keys(&[], &[first, second, rival])
    }

    pub(super) fn a_creation_that_three_repeat() -> World {
        let [first, second] = repeated_creation([1, 2], 1, "a");
        let [third, _] = repeated_creation([3, 4], 1, "a");
        World::with_keys(&[], &[first, second, third])
    }

    pub(super) fn a_repeated_rename_with_a_rival() -> World {
        let [first, second] = repeated(1, 1, &hold("b"));
        let rival = process(2, &[(2, create("b"))]);
        World::with_keys(&[(1, "a")], &[first, second, rival])
    }

    pub(super) fn a_repeated_rename_and_another_one() -> World {
        let [first, second] = repeated(1, 1, &hold("b"));
        let other = process(1, &[(2, hold("c"))]);
        World::with_keys(&[(1, "a")], &[first, second, other])
    }

    pub(super) fn a_repeated_deletion_and_a_rename() -> World {
        let [first, second] = repeated(1, 1, &Goal::Delete);
        let rename = process(1, &[(2, hold("b"))]);
        World::with_keys(&[(1, "a")], &[first, second, rename])
    }

    pub(super) fn a_repeated_change_and_a_deletion() -> World {
        let [first, second] = repeated(1, 1, &hold("b"));
        let deletion = process(1, &[(2, Goal::Delete)]);
        World::with_keys(&[(1, "a")], &[first, second, deletion])
    }

    pub(super) fn a_repeated_creation_of_a_name_that_its_holder_leaves() -> World {
        let [first, second] = repeated_creation([1, 2], 1, "a");
        let holder = process(3, &[(2, hold("b"))]);
        World::with_keys(&[(3, "a")], &[first, second, holder])
    }

    pub(super) fn a_repeated_rename_to_a_name_that_its_holder_leaves() -> World {
        let [first, second] = repeated(1, 1, &hold("b"));
        let holder = process(2, &[(2, hold("c"))]);
        World::with_keys(&[(1, "a"), (2, "b")], &[first, second, holder])
    }
}

use worlds_with_keys::*;

#[test]
fn a_creation_under_a_key_has_one_outcome_among_rivals() {
    assert_safe(&a_repeated_creation_with_a_rival(), 100_000);
    assert_safe(&a_creation_that_three_repeat(), 10_000);
    let left = a_repeated_creation_of_a_name_that_its_holder_leaves();
    assert_safe(&left, 10_000);
}

#[test]
fn a_rename_under_a_key_has_one_outcome_among_rivals_and_other_changes() {
    assert_safe(&a_repeated_rename_with_a_rival(), 30_000);
    assert_safe(&a_repeated_rename_and_another_one(), 3_000);
    let left = a_repeated_rename_to_a_name_that_its_holder_leaves();
    assert_safe(&left, 9_000);
}

#[test]
fn a_command_under_a_key_has_one_outcome_beside_a_deletion() {
    assert_safe(&a_repeated_deletion_and_a_rename(), 800);
    assert_safe(&a_repeated_change_and_a_deletion(), 1_000);
}

/// Any claim is swept at any time.
mod swept_worlds {
    use super::*;

    pub(super) fn creates(number: usize) -> World {
        let rivals = [1, 2, 3].map(|user| process(user, &[(1, create("a"))]));
        World::with_cleaner(&[], &rivals[..number], 1)
    }

    pub(super) fn a_rename_with_a_rival(rival: &str) -> World {
        let rename = process(1, &[(1, hold("b"))]);
        let rival = process(2, &[(2, create(rival))]);
        World::with_cleaner(&[(1, "a")], &[rename, rival], 1)
    }

    pub(super) fn a_rename_with_rivals() -> World {
        World::with_cleaner(&[(1, "a")], &worlds::rename_with_rivals(), 1)
    }

    pub(super) fn renames_away_and_back() -> World {
        let away = process(1, &[(1, hold("b"))]);
        let back = process(1, &[(2, hold("a"))]);
        World::with_cleaner(&[(1, "a")], &[away, back], 1)
    }

    pub(super) fn a_creation_that_is_repeated() -> World {
        let processes = repeated_creation([1, 2], 1, "a");
        World::with_cleaner(&[], &processes, 1)
    }

    pub(super) fn a_creation_that_is_repeated_and_deleted() -> World {
        let [first, second] = repeated_creation([1, 2], 1, "a");
        let deletion = process(1, &[(2, Goal::Delete)]);
        World::with_cleaner(&[], &[first, second, deletion], 0)
    }

    pub(super) fn a_rename_that_is_repeated() -> World {
        let [first, second] = repeated(1, 1, &hold("b"));
        World::with_cleaner(&[(1, "a")], &[first, second], 1)
    }

    pub(super) fn a_deletion_that_is_repeated() -> World {
        let [first, second] = repeated(1, 1, &Goal::Delete);
        let rename = process(1, &[(2, hold("b"))]);
        World::with_cleaner(&[(1, "a")], &[first, second, rename], 0)
    }
}

/// The sweep and the eraser follow the log.
mod followed_worlds {
    use super::*;

    pub(super) fn creates(number: usize) -> World {
        let rivals = [1, 2, 3].map(|user| process(user, &[(1, create("a"))]));
        World::with_followers(&[], &rivals[..number])
    }

    pub(super) fn a_rename_with_a_rival(rival: &str) -> World {
        let rename = process(1, &[(1, hold("b"))]);
        let rival = process(2, &[(2, create(rival))]);
        World::with_followers(&[(1, "a")], &[rename, rival])
    }

    pub(super) fn renames_away_and_back() -> World {
        let away = process(1, &[(1, hold("b"))]);
        let back = process(1, &[(2, hold("a"))]);
        World::with_followers(&[(1, "a")], &[away, back])
    }

    pub(super) fn a_rename_after_a_rename() -> World {
        let renames = process(1, &[(1, hold("b")), (2, hold("c"))]);
        World::with_followers(&[(1, "a")], &[renames])
    }

    pub(super) fn a_rename_and_a_deletion() -> World {
        let rename = process(1, &[(1, hold("b"))]);
        let deletion = process(1, &[(3, Goal::Delete)]);
        World::with_followers(&[(1, "a")], &[rename, deletion])
    }

    /// The user has claimed the name twice, and committed the first claim.
    pub(super) fn a_deletion_after_a_second_claim() -> World {
        let deletion = process(1, &[(1, Goal::Delete)]);
        let rival = process(2, &[(2, create("a"))]);
        let mut world = World::with_followers(&[(1, "a")], &[deletion, rival]);
        world.claim_again(1, "a");
        world
    }
}

#[test]
fn the_sweep_is_safe_beside_creations() {
    assert_safe(&swept_worlds::creates(2), 800);
    assert_safe(&swept_worlds::creates(3), 50_000);
}

#[test]
fn the_sweep_is_safe_beside_renames() {
    assert_safe(&swept_worlds::a_rename_with_a_rival("a"), 2_500);
    assert_safe(&swept_worlds::a_rename_with_a_rival("b"), 10_000);
    assert_safe(&swept_worlds::a_rename_with_rivals(), 100_000);
    assert_safe(&swept_worlds::renames_away_and_back(), 10_000);
}

#[test]
fn the_sweep_is_safe_beside_commands_under_a_key() {
    assert_safe(&swept_worlds::a_creation_that_is_repeated(), 50_000);
    assert_safe(&swept_worlds::a_rename_that_is_repeated(), 30_000);
    assert_safe(&swept_worlds::a_deletion_that_is_repeated(), 10_000);
}

#[test]
fn nobody_is_created_anew_under_a_key_after_an_erasure() {
    let world = swept_worlds::a_creation_that_is_repeated_and_deleted();
    assert_safe(&world, 4_000);
}

#[test]
fn the_sweep_leaves_no_claim_behind() {
    assert_safe(&followed_worlds::creates(2), 1_000);
    assert_safe(&followed_worlds::creates(3), 100_000);
    assert_safe(&followed_worlds::a_rename_with_a_rival("a"), 10_000);
    assert_safe(&followed_worlds::a_rename_with_a_rival("b"), 20_000);
    assert_safe(&followed_worlds::renames_away_and_back(), 100_000);
    assert_safe(&followed_worlds::a_rename_after_a_rename(), 7_000);
}

#[test]
fn the_sweep_and_the_eraser_leave_no_claim_of_a_deleted_user_behind() {
    assert_safe(&followed_worlds::a_rename_and_a_deletion(), 10_000);
    assert_safe(&followed_worlds::a_deletion_after_a_second_claim(), 4_000);
}

#[test]
fn a_sweep_without_a_fence_is_found_to_be_unsafe() {
    let world = swept_worlds::a_rename_with_a_rival("b");
    assert_finds_two_holders(&world, Variation::SweepsWithoutAFence);
}

#[test]
fn a_sweep_that_does_not_fence_an_absent_owner_is_found_to_be_unsafe() {
    let variation = Variation::SweepsWithoutFencingTheAbsent;
    assert_finds_two_holders(&swept_worlds::creates(2), variation);
}

#[test]
fn a_sweep_whose_release_expects_no_revision_is_found_to_be_unsafe() {
    let variation = Variation::SweepsAtAnyRevision;
    assert_finds_two_holders(&swept_worlds::creates(2), variation);
}

#[test]
fn a_rename_that_does_not_name_what_it_leaves_is_found_to_leave_claims_behind() {
    let world = followed_worlds::a_rename_with_a_rival("b");
    let variation = Variation::ForgetsTheNameThatIsLeft;
    assert_finds(&[Flaw::AClaimIsLeftBehind], &world, variation);
}

#[test]
fn an_eraser_that_releases_only_the_committed_claim_is_found_to_leave_claims_behind() {
    let world = followed_worlds::a_deletion_after_a_second_claim();
    let variation = Variation::ErasesOnlyTheCommittedClaim;
    assert_finds(&[Flaw::AClaimIsLeftBehind], &world, variation);
}

#[test]
fn a_retry_without_an_ownership_check_is_found_to_contradict_an_answer() {
    let world = a_repeated_rename_to_a_name_that_its_holder_leaves();
    let variation = Variation::RetriesWithoutAnOwnershipCheck;
    assert_finds(&[Flaw::TwoOutcomes], &world, variation);
}

#[test]
fn a_refusal_without_a_fence_is_found_to_contradict_an_answer() {
    let world = a_repeated_creation_of_a_name_that_its_holder_leaves();
    let variation = Variation::RefusesWithoutAFence;
    assert_finds(&[Flaw::TwoOutcomes], &world, variation);
}

#[test]
fn an_outcome_that_a_former_owner_stores_is_found_to_contradict_an_answer() {
    let world = a_repeated_creation_with_a_rival();
    let variation = Variation::AnybodyStoresTheOutcome;
    assert_finds(&[Flaw::TwoOutcomes], &world, variation);
}

#[test]
fn a_repeated_creation_that_does_not_read_its_user_first_is_found_to_have_no_outcome() {
    let world = a_repeated_creation_with_a_rival();
    let variation = Variation::NeverReadsANewUserFirst;
    assert_finds(&[Flaw::NoOutcome], &world, variation);
}
