//! A simulation of many processes with few worker numbers and wrong clocks. It checks that no id is issued twice, that no
//! two windows overlap, and the promises about the order of ids and about their lead over the clock.
//!
//! The log is modelled by its one promise: an append at the exact revision is written once or not at all, and a repeated
//! append (the same event id) gets the outcome of the first. Planted faults show that the checks find errors.

mod exhaustive;
mod faults;
mod process;
mod world;

use faults::Fault;
use proptest::prelude::*;
use world::World;

use crate::domain::id::{Id, MILLISECONDS, Tick};

/// There are fewer numbers than processes, so that the processes compete for them.
const NUMBERS: u16 = 2;
const PROCESSES: usize = 3;
const START_MS: u64 = 10_000_000;

#[derive(Debug, Clone)]
enum Step {
    /// The clock of a process moves forwards or backwards, a little or far.
    Clock { process: usize, by_ms: i64 },
    /// A process reads a number in the log, as it does when it has none.
    Look { process: usize, number: u16 },
    /// The process decides by what it has read, which may be out of date, and sends the append. (Steps in between act as a
    /// pause.)
    Decide { process: usize },
    /// The append reaches the log or is lost, and so does the answer on its way to the process.
    Append {
        process: usize,
        written: bool,
        answered: bool,
    },
    /// Somebody asks the process for ids.
    Issue {
        process: usize,
        count: u16,
        after: After,
    },
    /// The process ends, and another one with the same clock replaces it.
    Restart { process: usize },
    /// A backup of the log is made. The first one is of the empty log.
    BackUp,
    /// All processes end, the log is restored from the last backup, a floor is set, and other processes replace them.
    Restore,
}

/// The id that all issued ids must be above.
#[derive(Debug, Clone)]
enum After {
    Nothing,
    /// The last id of a process, possibly of the same one.
    LastOf(usize),
    /// An id near the clock of the process that is asked.
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
        1 => prop_oneof![3 => Just(Step::BackUp), 1 => Just(Step::Restore)],
    ]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec(step(), 1..200)
}

/// Runs the steps; the error says what went wrong.
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
