//! Many processes, few worker numbers, clocks that lie: no id twice, each process upwards, no two windows overlap.
//!
//! The log is modelled by its one promise: an append at the exact revision is written once or not at all, and a
//! repeated one (the same event id) is told the outcome of the first.

use std::collections::HashSet;

use event_sourcing::{Decider as _, fold};
use proptest::prelude::*;
use uuid::Uuid;

use crate::domain::{
    id::Id,
    issuer::Issuer,
    window::{GrantWindow, Holder, Tenure, WindowGranted, WorkerNumber},
};

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
    /// Ids are asked for, perhaps above another process's last.
    Issue {
        process: usize,
        count: u16,
        after: Option<usize>,
    },
    /// The process ends and another starts in its place, with the same clock.
    Restart { process: usize },
}

fn step() -> impl Strategy<Value = Step> {
    let process = 0..PROCESSES;
    let by_ms = prop_oneof![5 => 0..2_000_i64, 2 => 30_000..200_000_i64, 2 => -300_000..0_i64, 1 => Just(-9_000_000)];
    let count = prop_oneof![9 => 1..100_u16, 1 => 1..=10_000_u16];
    let after = proptest::option::weighted(0.3, 0..PROCESSES);
    prop_oneof![
        3 => (process.clone(), by_ms).prop_map(|(process, by_ms)| Step::Clock { process, by_ms }),
        2 => (process.clone(), 0..NUMBERS).prop_map(|(process, number)| Step::Look { process, number }),
        4 => process.clone().prop_map(|process| Step::Decide { process }),
        4 => (process.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(process, written, answered)| Step::Append { process, written, answered }),
        6 => (process.clone(), count, after)
            .prop_map(|(process, count, after)| Step::Issue { process, count, after }),
        1 => process.prop_map(|process| Step::Restart { process }),
    ]
}

struct Process {
    holder: Holder,
    clock_ms: u64,
    /// The number last seen: its revision (how many events it has) and whose it is.
    seat: Option<(u16, usize, Tenure)>,
    in_flight: Option<InFlight>,
    issuer: Issuer,
    last: Option<Id>,
}

#[derive(Clone, Copy)]
struct InFlight {
    event_id: Uuid,
    number: u16,
    revision: usize,
    event: WindowGranted,
}

impl Process {
    fn start(clock_ms: u64) -> Self {
        let holder = Holder(Uuid::new_v4());
        Self {
            holder,
            clock_ms,
            seat: None,
            in_flight: None,
            issuer: Issuer::default(),
            last: None,
        }
    }
}

struct World {
    log: [Vec<(Uuid, WindowGranted)>; NUMBERS as usize],
    processes: Vec<Process>,
    issued: HashSet<u64>,
}

impl World {
    fn new() -> Self {
        Self {
            log: std::array::from_fn(|_| Vec::new()),
            processes: (0..PROCESSES).map(|_| Process::start(START_MS)).collect(),
            issued: HashSet::new(),
        }
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Clock { process, by_ms } => {
                let clock = &mut self.processes[process].clock_ms;
                *clock = clock.saturating_add_signed(by_ms);
            }
            Step::Look { process, number } => {
                let events = self.log[usize::from(number)].iter().map(|(_, event)| event);
                let seat = (number, events.len(), fold::<WorkerNumber>(events));
                self.processes[process].seat = Some(seat);
            }
            Step::Decide { process } => decide(&mut self.processes[process]),
            Step::Append {
                process,
                written,
                answered,
            } => self.append(process, written, answered),
            Step::Issue {
                process,
                count,
                after,
            } => self.issue(process, count, after),
            Step::Restart { process } => {
                self.processes[process] = Process::start(self.processes[process].clock_ms);
            }
        }
    }

    fn append(&mut self, process: usize, written: bool, answered: bool) {
        let process = &mut self.processes[process];
        let Some(InFlight {
            event_id,
            number,
            revision,
            event,
        }) = process.in_flight
        else {
            return;
        };
        let stream = &mut self.log[usize::from(number)];
        if written && stream.len() == revision {
            stream.push((event_id, event));
        }
        let ours = stream.get(revision).map(|(id, _)| *id == event_id);
        // Without an answer the append stays in flight and is sent again as it is.
        if let (true, Some(ours)) = (answered, ours) {
            process.in_flight = None;
            process.seat = None;
            if ours {
                process.issuer.grant(number, event.window);
                process.seat = Some((number, revision + 1, Tenure::Granted(event)));
            }
        }
    }

    fn issue(&mut self, process: usize, count: u16, after: Option<usize>) {
        let after = after.and_then(|other| self.processes[other].last);
        let process = &mut self.processes[process];
        let Ok(ids) = process.issuer.issue(process.clock_ms, count, after) else {
            return;
        };
        assert_eq!(ids.len(), usize::from(count));
        for id in ids {
            assert!(self.issued.insert(id.number()), "{id:?} was issued twice");
            assert!(
                Some(id) > process.last.max(after),
                "{id:?} is not above what was before it"
            );
            process.last = Some(id);
            let stream = usize::try_from(id.worker()).unwrap();
            let granted = self.log[stream].iter();
            let mut own = granted.filter(|(_, event)| event.holder == process.holder);
            let holds = |window: &crate::domain::window::Window| {
                (window.from_ms..window.until_ms).contains(&id.millisecond())
            };
            assert!(
                own.any(|(_, event)| holds(&event.window)),
                "{id:?} is in no window of its process"
            );
        }
    }

    fn no_windows_overlap(&self) {
        for stream in &self.log {
            for pair in stream.windows(2) {
                assert!(
                    pair[0].1.window.until_ms <= pair[1].1.window.from_ms,
                    "{pair:?}"
                );
            }
        }
    }
}

fn decide(process: &mut Process) {
    let (None, Some((number, revision, tenure))) = (process.in_flight, process.seat) else {
        return;
    };
    let command = GrantWindow {
        holder: process.holder,
        now_ms: process.clock_ms,
    };
    let events = WorkerNumber::decide(&tenure, command).unwrap_or_default();
    process.in_flight = events.first().map(|event| InFlight {
        event_id: Uuid::new_v4(),
        number,
        revision,
        event: *event,
    });
}

proptest! {
    #[test]
    fn no_id_is_issued_twice_whatever_the_clocks_do(steps in proptest::collection::vec(step(), 1..200)) {
        let mut world = World::new();
        for step in &steps {
            world.take(step);
        }
        world.no_windows_overlap();
    }
}

#[test]
fn the_simulation_does_issue_ids() {
    let mut world = World::new();
    for step in [
        Step::Look {
            process: 0,
            number: 1,
        },
        Step::Look {
            process: 1,
            number: 1,
        },
        Step::Decide { process: 0 },
        Step::Decide { process: 1 },
        Step::Append {
            process: 0,
            written: true,
            answered: false,
        },
        Step::Append {
            process: 1,
            written: true,
            answered: true,
        },
        Step::Append {
            process: 0,
            written: true,
            answered: true,
        },
        Step::Issue {
            process: 0,
            count: 9,
            after: None,
        },
        Step::Issue {
            process: 1,
            count: 9,
            after: None,
        },
    ] {
        world.take(&step);
    }
    assert_eq!(world.issued.len(), 9, "one of the rivals got the number");
}
