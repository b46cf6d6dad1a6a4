//! The log and the processes that share it.

use std::collections::HashSet;

use event_sourcing::{Decider as _, fold};
use uuid::Uuid;

use super::{
    After, NUMBERS, PROCESSES, START_MS, Step,
    faults::{Fault, answer},
    process::{InFlight, KnownNumber, Process},
};
use crate::domain::{
    issuer::{LEAD_MS, Need, Refusal},
    window::{
        AHEAD_MS, NumberCommand, Purpose, RaiseFloor, Tenure, Window, WindowGranted, WorkerNumber,
    },
};

/// A number that no step uses: it is free for the process that recovers at the end.
const SPARE: u16 = NUMBERS;

/// The events of each number.
type Log = [Vec<(Uuid, WindowGranted)>; NUMBERS as usize + 1];

#[derive(Clone)]
pub(super) struct World {
    log: Log,
    backup: Log,
    processes: Vec<Process>,
    /// The end of the window that reaches furthest, of all windows that a process ever had.
    furthest_ms: u64,
    pub(super) issued: HashSet<u64>,
    fault: Fault,
}

impl World {
    pub(super) fn new(fault: Fault) -> Self {
        Self {
            log: Log::default(),
            backup: Log::default(),
            furthest_ms: 0,
            processes: (0..PROCESSES).map(|_| Process::start(START_MS)).collect(),
            issued: HashSet::new(),
            fault,
        }
    }

    pub(super) fn take(&mut self, step: &Step) -> Result<(), String> {
        match step {
            Step::Clock { process, by_ms } => {
                let clock = &mut self.processes[*process].clock_ms;
                *clock = clock.saturating_add_signed(*by_ms);
            }
            Step::Look { process, number } => self.look(*process, *number),
            Step::Decide { process } => self.decide(*process),
            Step::Append {
                process,
                written,
                answered,
            } => self.append(*process, *written, *answered),
            Step::Issue {
                process,
                count,
                after,
            } => self.issue(*process, *count, after)?,
            Step::Restart { process } => self.restart(*process),
            Step::BackUp => self.backup = self.log.clone(),
            Step::Restore => self.restore()?,
        }
        Ok(())
    }

    fn look(&mut self, process: usize, number: u16) {
        let events = self.log[usize::from(number)].iter().map(|(_, event)| event);
        let known = KnownNumber {
            number,
            revision: events.len(),
            tenure: fold::<WorkerNumber>(events),
            purpose: Purpose::Take,
        };
        self.processes[process].known = Some(known);
    }

    fn decide(&mut self, process: usize) {
        let process = &mut self.processes[process];
        process.decide();
        if let (Fault::GrantsBeforeTheLog, Some(sent)) = (self.fault, process.in_flight) {
            process.grant(sent.number, sent.event.window);
        }
    }

    fn append(&mut self, process: usize, written: bool, answered: bool) {
        let process = &mut self.processes[process];
        let Some(sent) = process.in_flight else {
            return;
        };
        let InFlight {
            event_id,
            number,
            revision,
            event,
        } = sent;
        let stream = &mut self.log[usize::from(number)];
        let anywhere = self.fault == Fault::AppendsAnywhere;
        if written && (anywhere || stream.len() == revision) {
            stream.push((event_id, event));
        }
        let ours = stream
            .get(revision)
            .map(|(id, _)| anywhere || *id == event_id);
        // Without an answer the append stays in flight and is sent again unchanged.
        if let (true, Some(ours)) = (answered, ours) {
            process.in_flight = None;
            process.known = None;
            if ours {
                process.grant(number, event.window);
                self.furthest_ms = self.furthest_ms.max(event.window.until_ms);
                process.known = Some(KnownNumber {
                    number,
                    revision: revision + 1,
                    tenure: Tenure::Granted(event),
                    purpose: Purpose::Renew,
                });
            }
        }
    }

    fn restart(&mut self, process: usize) {
        let old = &mut self.processes[process];
        let mut new = Process::start(old.clock_ms);
        if self.fault == Fault::StartsWithOldMemory {
            new.issuer = old.issuer.clone();
        }
        *old = new;
    }

    fn restore(&mut self) -> Result<(), String> {
        (0..PROCESSES).for_each(|process| self.restart(process));
        self.log = self.backup.clone();
        let ends = self.log.iter().flatten();
        let ends = ends.map(|(_, event)| event.window.until_ms);
        let mut floor_ms = ends.max().unwrap_or(0).max(self.furthest_ms);
        if self.fault == Fault::SetsNoFloor {
            return Ok(());
        }
        if self.fault == Fault::SetsALowFloor {
            floor_ms -= floor_ms.min(AHEAD_MS / 2);
        }
        let floor = NumberCommand::RaiseFloor(RaiseFloor {
            floor_ms,
            now_ms: floor_ms,
        });
        for stream in &mut self.log {
            let tenure = fold::<WorkerNumber>(stream.iter().map(|(_, event)| event));
            match WorkerNumber::decide(&tenure, floor) {
                Ok(events) => {
                    stream.extend(events.into_iter().map(|event| (Uuid::new_v4(), event)));
                }
                Err(_) if self.fault == Fault::SetsALowFloor => {}
                Err(refused) => return Err(refused.to_string()),
            }
        }
        Ok(())
    }

    fn issue(&mut self, process: usize, count: u16, after: &After) -> Result<(), String> {
        let last = |process: usize| self.processes[process].last;
        let after = self.processes[process].above(after, last);
        let fault = self.fault;
        let process = &mut self.processes[process];
        let need = process.issuer.need(process.clock_ms);
        let answer = answer(process, count, after, fault);
        if need != process.issuer.need(process.clock_ms) {
            return Err("a request for ids causes a need for a lease".to_owned());
        }
        let judged = process
            .expected
            .judge(process.clock_ms, after, &answer, &self.issued);
        let Ok(issued) = answer else { return judged };
        if issued.ids().count() != usize::from(count) {
            return Err(format!("{} ids instead of {count}", issued.count()));
        }
        for id in issued.ids() {
            process.last = Some(id);
            if !self.issued.insert(id.number()) {
                return Err(format!("{id:?} was issued twice"));
            }
            let granted = self.log[usize::try_from(id.worker()).unwrap()].iter();
            let mut own = granted.filter(|(_, event)| event.holder == process.holder);
            let holds =
                |window: &Window| (window.from_ms..window.until_ms).contains(&id.millisecond());
            if !own.any(|(_, event)| holds(&event.window)) {
                return Err(format!("{id:?} is in no window of its process"));
            }
        }
        judged
    }

    pub(super) fn no_windows_overlap(&self) -> Result<(), String> {
        let mut pairs = self.log.iter().flat_map(|stream| stream.windows(2));
        let overlap = pairs.find(|pair| pair[0].1.window.until_ms > pair[1].1.window.from_ms);
        overlap.map_or(Ok(()), |pair| Err(format!("{pair:?} overlap")))
    }

    /// Once the log answers and a number is free, a process issues ids at its clock, or waits for less than a window.
    pub(super) fn recovers(&mut self) -> Result<(), String> {
        let recovering = 0;
        // A floor can be ahead of the clock, and then the clock must reach it.
        if let Some((_, floor)) = self.log[usize::from(SPARE)].last() {
            let process = &mut self.processes[recovering];
            process.clock_ms = process.clock_ms.max(floor.window.until_ms);
        }
        for _ in 0..4 {
            self.append(recovering, true, true);
            let process = &mut self.processes[recovering];
            match process.issuer.need(process.clock_ms) {
                Need::Nothing => break,
                Need::Window
                    if process
                        .known
                        .is_some_and(|known| known.purpose == Purpose::Renew) => {}
                Need::Number if self.fault == Fault::KeepsItsNumber && process.has_window() => {
                    break;
                }
                Need::Window | Need::Number => self.look(recovering, SPARE),
            }
            self.decide(recovering);
        }
        let process = &mut self.processes[recovering];
        let lead = |by_ms: u64| by_ms + LEAD_MS <= AHEAD_MS;
        match process.issuer.issue(process.clock_ms, 1, None) {
            Ok(_) => Ok(()),
            Err(Refusal::AheadOfTheClock { by_ms }) if lead(by_ms) => Ok(()),
            Err(refusal) => Err(format!("it does not recover: {refusal:?}")),
        }
    }
}
