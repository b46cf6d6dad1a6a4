//! Every order of a few moves, from a process that has a window. Random steps reach further; these leave nothing out.

use super::{After, Step, faults::Fault, world::World};

/// The length of the orders that are explored.
const MOVES: usize = 4;

fn append(process: usize) -> Step {
    Step::Append {
        process,
        written: true,
        answered: true,
    }
}

fn take(process: usize, number: u16) -> Vec<Step> {
    vec![
        Step::Look { process, number },
        Step::Decide { process },
        append(process),
    ]
}

fn issue(process: usize, count: u16, after: After) -> Vec<Step> {
    vec![Step::Issue {
        process,
        count,
        after,
    }]
}

fn near(lead_ms: i64, worker: u16, sequence: u64) -> After {
    After::Near {
        lead_ms,
        worker,
        sequence,
    }
}

fn clock(by_ms: i64) -> Vec<Step> {
    vec![Step::Clock { process: 0, by_ms }]
}

/// What process 0, its rival and the operator can do. The two processes compete for number 0.
fn moves() -> Vec<Vec<Step>> {
    let restart = vec![Step::Restart { process: 0 }];
    vec![
        issue(0, 1, After::Nothing),
        issue(0, 4_095, After::Nothing),
        issue(0, 3, near(2_000, 0, 4_094)),
        issue(0, 2, After::LastOf(0)),
        issue(0, 1, near(0, 1, 5)),
        clock(1),
        clock(-999),
        clock(-61_500),
        clock(59_999),
        // The window is renewed; or the answer is lost, and the next move of this kind sends the append again.
        vec![Step::Decide { process: 0 }, append(0)],
        vec![
            Step::Decide { process: 0 },
            Step::Append {
                process: 0,
                written: true,
                answered: false,
            },
        ],
        take(0, 1),
        [take(1, 0), issue(1, 1, After::Nothing)].concat(),
        [restart, take(0, 0)].concat(),
        [vec![Step::Restore], take(0, 0)].concat(),
    ]
}

/// Explores all orders of so many moves. Returns their number, or what went wrong.
fn explore(world: &World, moves: &[Vec<Step>], left: usize) -> Result<usize, String> {
    if left == 0 {
        let mut world = world.clone();
        world.no_windows_overlap()?;
        return world.recovers().map(|()| 1);
    }
    let orders = moves.iter().map(|steps| {
        let mut world = world.clone();
        steps.iter().try_for_each(|step| world.take(step))?;
        explore(&world, moves, left - 1)
    });
    orders.sum()
}

fn explored(fault: Fault) -> Result<usize, String> {
    let mut world = World::new(fault);
    take(0, 0).iter().try_for_each(|step| world.take(step))?;
    explore(&world, &moves(), MOVES)
}

#[test]
fn no_order_of_a_few_moves_issues_an_id_twice() {
    let orders = moves().len().pow(u32::try_from(MOVES).unwrap());
    assert_eq!(explored(Fault::None), Ok(orders));
}

#[test]
fn planted_faults_are_found_among_all_orders() {
    for (fault, what) in [
        (Fault::AppendsAnywhere, "overlap"),
        (Fault::StartsWithOldMemory, "no window"),
        (Fault::SetsNoFloor, "was issued twice"),
        (Fault::SetsALowFloor, "was issued twice"),
        (Fault::ForgetsIssuedAhead, "was issued twice"),
        (Fault::MovesTheSharedSequence, "AheadOfTheClock"),
        (Fault::RefusesItsOwnIds, "Err(AfterTooFar)"),
        (Fault::KeepsItsNumber, "does not recover"),
        (Fault::RestartsItsWindow, "Err(AfterTooFar)"),
    ] {
        let found = explored(fault).unwrap_err();
        assert!(found.contains(what), "{fault:?}: {found}");
    }
}
