//! Many processes, few worker numbers, clocks that lie: no id twice, no two windows overlap, and the promises about order
//! and about how far ids lead the clock.
//!
//! The log is modelled by its one promise: an append at the exact revision is written once or not at all, and a
//! repeated one (the same event id) is told the outcome of the first. So that all of this can be trusted, faults are
//! planted too, and must be found.

mod faults;
mod process;
mod world;

use faults::Fault;
use proptest::prelude::*;
use world::World;

use crate::domain::id::{Id, MILLISECONDS, Tick};

/// Fewer than processes, so that they are fought over.
const NUMBERS: u16 = 2;
const PROCESSES: usize = 3;
const START_MS: u64 = 10_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// The clock of a process moves by so much: on, back, far.
    Clock { process: usize, by_ms: i64 },
    /// A process looks at a number in the log, as when it has none.
    Look { process: usize, number: u16 },
    /// It decides upon what it knows, which may be long out of date, and sends the append. (A pause is any other step in between.)
    Decide { process: usize },
    /// The append reaches the log, or it does not; the answer reaches the process, or it does not.
    Append {
        process: usize,
        written: bool,
        answered: bool,
    },
    /// Ids are asked for.
    Issue {
        process: usize,
        count: u16,
        after: After,
    },
    /// The process ends and another starts in its place, with the same clock.
    Restart { process: usize },
}

/// What the ids must be above.
#[derive(Debug, Clone)]
enum After {
    Nothing,
    /// The last id of a process, perhaps of the one that is asked.
    LastOf(usize),
    /// Any id about the clock of the one that is asked.
    Near {
        lead_ms: i64,
        worker: u16,
        sequence: u64,
    },
    /// Any id at all.
    Anywhere(u64),
}

fn after() -> impl Strategy<Value = After> {
    let lead_ms = prop_oneof![3 => -2..6_i64, 2 => 0..2_500_i64, 1 => 1_990..2_010_i64, 1 => 2_000..70_000_i64];
    let near = (lead_ms, 0..=NUMBERS, prop_oneof![0..40_u64, 0..4_096_u64]);
    prop_oneof![
        5 => Just(After::Nothing),
        2 => (0..PROCESSES).prop_map(After::LastOf),
        4 => near.prop_map(|(lead_ms, worker, sequence)| After::Near { lead_ms, worker, sequence }),
        1 => (0..=i64::MAX.unsigned_abs()).prop_map(After::Anywhere),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let process = 0..PROCESSES;
    let by_ms = prop_oneof![
        5 => 0..2_000_i64,
        2 => 30_000..200_000_i64,
        1 => -1_500..0_i64,
        1 => -300_000..0_i64,
        1 => Just(-9_000_000),
        1 => Just(9_000_000)
    ];
    let count = prop_oneof![9 => 1..100_u16, 1 => 1..=10_000_u16];
    prop_oneof![
        3 => (process.clone(), by_ms).prop_map(|(process, by_ms)| Step::Clock { process, by_ms }),
        2 => (process.clone(), 0..NUMBERS).prop_map(|(process, number)| Step::Look { process, number }),
        4 => process.clone().prop_map(|process| Step::Decide { process }),
        4 => (process.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(process, written, answered)| Step::Append { process, written, answered }),
        8 => (process.clone(), count, after())
            .prop_map(|(process, count, after)| Step::Issue { process, count, after }),
        1 => process.prop_map(|process| Step::Restart { process }),
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..200)
}

/// What is wrong after these steps, if anything is.
fn run(steps: &[Step], fault: Fault) -> Result<World, String> {
    let mut world = World::new(fault);
    for step in steps {
        world.take(step)?;
    }
    world.no_windows_overlap()?;
    world.recovers()?;
    Ok(world)
}

fn id_at(millisecond: u64, worker: u16, sequence: u64) -> Id {
    let millisecond = millisecond.min(MILLISECONDS - 1);
    Id::new(Tick::first_of(millisecond).plus(sequence), worker)
}

proptest! {
    #[test]
    fn no_id_is_issued_twice_whatever_the_clocks_do(steps in steps()) {
        prop_assert_eq!(run(&steps, Fault::None).err(), None);
    }
}
