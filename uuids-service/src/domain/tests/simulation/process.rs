//! One process of the simulation, and the expectations about its answers.

use std::collections::HashSet;

use uuid::Uuid;

use super::{After, id_at};
use crate::domain::{
    id::{Id, Tick},
    issuer::{AFTER_MS, Issued, Issuer, LEAD_MS, Refusal},
    window::{
        GrantWindow, Holder, NumberCommand, Purpose, Tenure, Window, WindowGranted, WorkerNumber,
    },
};
use event_sourcing::Decider as _;

/// More milliseconds than all ids of one simulation take.
const CROWD_MS: u64 = 500;

#[derive(Clone)]
pub(super) struct Process {
    pub(super) holder: Holder,
    pub(super) clock_ms: u64,
    pub(super) known: Option<KnownNumber>,
    pub(super) in_flight: Option<InFlight>,
    pub(super) issuer: Issuer,
    pub(super) last: Option<Id>,
    pub(super) expected: Expected,
}

/// A worker number as the process last saw it: its revision (the number of events), its tenure, and the purpose of the next
/// window.
#[derive(Clone, Copy)]
pub(super) struct KnownNumber {
    pub(super) number: u16,
    pub(super) revision: usize,
    pub(super) tenure: Tenure,
    pub(super) purpose: Purpose,
}

#[derive(Clone, Copy)]
pub(super) struct InFlight {
    pub(super) event_id: Uuid,
    pub(super) number: u16,
    pub(super) revision: usize,
    pub(super) event: WindowGranted,
}

/// What the answers of a process must be, derived from its windows, its clock and its earlier answers.
#[derive(Default, Clone)]
pub(super) struct Expected {
    pub(super) lease: Option<(u16, Window)>,
    /// The next tick of the shared sequence.
    pub(super) shared: Tick,
    /// The greatest id that was issued ahead of the shared sequence.
    farthest: Option<Id>,
}

impl Process {
    pub(super) fn start(clock_ms: u64) -> Self {
        Self {
            holder: Holder(Uuid::new_v4()),
            clock_ms,
            known: None,
            in_flight: None,
            issuer: Issuer::default(),
            last: None,
            expected: Expected::default(),
        }
    }

    pub(super) fn decide(&mut self) {
        let (None, Some(known)) = (self.in_flight, self.known) else {
            return;
        };
        let command = NumberCommand::Grant(GrantWindow {
            holder: self.holder,
            now_ms: self.clock_ms,
            purpose: known.purpose,
        });
        let events = WorkerNumber::decide(&known.tenure, command).unwrap_or_default();
        self.in_flight = events.first().map(|event| InFlight {
            event_id: Uuid::new_v4(),
            number: known.number,
            revision: known.revision,
            event: *event,
        });
    }

    pub(super) fn grant(&mut self, number: u16, window: Window) {
        self.issuer.grant(number, window);
        self.expected.grant(number, window);
    }

    pub(super) fn has_window(&self) -> bool {
        self.expected.lease.is_some()
    }

    pub(super) fn above(&self, after: &After, last: impl Fn(usize) -> Option<Id>) -> Option<Id> {
        match *after {
            After::Nothing => None,
            After::LastOf(process) => last(process),
            After::Near {
                lead_ms,
                worker,
                sequence,
            } => {
                let millisecond = self.clock_ms.saturating_add_signed(lead_ms);
                Some(id_at(millisecond, worker, sequence))
            }
            After::Anywhere(number) => Id::parse(number),
        }
    }
}

impl Expected {
    fn grant(&mut self, number: u16, window: Window) {
        if let Some((held, last)) = &mut self.lease
            && (*held, last.until_ms) == (number, window.from_ms)
        {
            last.until_ms = window.until_ms;
            return;
        }
        self.lease = Some((number, window));
        let reached_ms = self.shared.millisecond();
        // The order breaks only here: another window begins more than a second below the last id.
        if reached_ms > window.from_ms + LEAD_MS {
            self.shared = Tick::default();
            self.farthest = None;
        } else {
            self.shared = Tick::first_of(reached_ms + 1);
        }
    }

    /// Fails if an answer is wrong; `issued` has all ids issued before it.
    pub(super) fn judge(
        &mut self,
        clock_ms: u64,
        after: Option<Id>,
        answer: &Result<Issued, Refusal>,
        issued: &HashSet<u64>,
    ) -> Result<(), String> {
        let latest_ms = clock_ms.max(self.shared.millisecond());
        let too_far = after.is_some_and(|after| {
            after.millisecond() > latest_ms + AFTER_MS && Some(after) > self.farthest
        });
        if too_far != matches!(answer, Err(Refusal::AfterTooFar)) {
            return Err(format!("{after:?} is {answer:?} at {latest_ms}"));
        }
        let Some((number, window)) = self.lease else {
            return answer
                .as_ref()
                .err()
                .map(|_| ())
                .ok_or("no window".to_owned());
        };
        let next = Tick::first_of(clock_ms.max(window.from_ms)).max(self.shared);
        let leading =
            after.filter(|after| *after >= id_at(next.millisecond(), number, next.sequence()));
        match (answer, leading) {
            (Ok(issued_now), None) => self.judge_shared(clock_ms, next, issued_now, issued),
            (Ok(issued_now), Some(after)) => {
                self.shared = next;
                self.farthest = self.farthest.max(issued_now.ids().last());
                judge_leading(latest_ms, after, issued_now, issued)
            }
            (Err(refusal), None) => may_refuse(*refusal, clock_ms, next, window),
            (Err(refusal), Some(after)) => {
                let start = Tick::first_of(after.millisecond() + 1);
                may_refuse(*refusal, latest_ms + AFTER_MS, start, window)
            }
        }
    }

    fn judge_shared(
        &mut self,
        clock_ms: u64,
        next: Tick,
        answer: &Issued,
        issued: &HashSet<u64>,
    ) -> Result<(), String> {
        leaves_out_nothing(next, answer, issued)?;
        let last = answer.ids().last().ok_or("an empty answer")?;
        if last.millisecond() > clock_ms + LEAD_MS {
            return Err(format!("{last:?} leads the clock too far"));
        }
        self.shared = Tick::first_of(last.millisecond()).plus(last.sequence() + 1);
        Ok(())
    }
}

/// An answer ahead of the shared sequence begins above `after`, and as soon after it as possible.
fn judge_leading(
    latest_ms: u64,
    after: Id,
    answer: &Issued,
    issued: &HashSet<u64>,
) -> Result<(), String> {
    let first = answer.ids().next().ok_or("an empty answer")?;
    if first <= after {
        return Err(format!("{first:?} is not above {after:?}"));
    }
    let last = answer.ids().last().ok_or("an empty answer")?;
    if last.millisecond() > latest_ms + AFTER_MS + LEAD_MS {
        return Err(format!("{last:?} leads too far"));
    }
    let start = Tick::first_of(first.millisecond()).plus(first.sequence());
    leaves_out_nothing(
        start.min(Tick::first_of(after.millisecond() + 1)),
        answer,
        issued,
    )
}

/// The answer has every tick from `start` to its end that was not issued before.
fn leaves_out_nothing(start: Tick, answer: &Issued, issued: &HashSet<u64>) -> Result<(), String> {
    let mut tick = start;
    for id in answer.ids() {
        let worker = u16::try_from(id.worker()).map_err(|error| error.to_string())?;
        while Id::new(tick, worker) != id {
            let left_out = Id::new(tick, worker);
            if left_out > id || !issued.contains(&left_out.number()) {
                return Err(format!("{left_out:?} is left out before {id:?}"));
            }
            tick = tick.plus(1);
        }
        tick = tick.plus(1);
    }
    Ok(())
}

/// A refusal is right only when the clock is far from the shared sequence or from the window.
fn may_refuse(refusal: Refusal, clock_ms: u64, next: Tick, window: Window) -> Result<(), String> {
    let next_ms = next.millisecond();
    let has_reason = match refusal {
        Refusal::AheadOfTheClock { .. } => next_ms + CROWD_MS > clock_ms + LEAD_MS,
        Refusal::OutOfWindow => next_ms + CROWD_MS >= window.until_ms,
        Refusal::AfterTooFar => true,
    };
    let why = || format!("{refusal:?} at {clock_ms}, from {next_ms} in {window:?}");
    has_reason.then_some(()).ok_or_else(why)
}
