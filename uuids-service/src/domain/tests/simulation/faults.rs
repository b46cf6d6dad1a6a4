//! Faults planted in the processes and in the log, which the simulation must find. One more test shows that the simulation
//! issues ids at all.

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestError, TestRng, TestRunner},
};

use super::{After, Step, process::Process, run, steps};
use crate::domain::{
    id::Id,
    issuer::{AFTER_MS, Issued, Issuer, Refusal},
};

/// A planted error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The log accepts an append at any expected revision.
    AppendsAnywhere,
    /// A process uses a window before the log has it.
    GrantsBeforeTheLog,
    /// A process starts with the memory of its predecessor.
    StartsWithOldMemory,
    /// No floor is set after a restore.
    SetsNoFloor,
    /// The floor is within a window that the backup lacks.
    SetsALowFloor,
    /// The issuer forgets which ticks it issued ahead.
    ForgetsIssuedAhead,
    /// A request with `after` moves the shared sequence.
    MovesTheSharedSequence,
    /// An `after` that is too far ahead is answered anyway.
    AnswersTooFarAhead,
    /// An `after` that is too far ahead is refused, although the process issued this id.
    RefusesItsOwnIds,
    /// Ids are issued too far ahead of the clock.
    OutrunsTheClock,
    /// After a long step back the process keeps its number and waits.
    KeepsItsNumber,
    /// After a step back the process issues from the beginning of its window again.
    RestartsItsWindow,
}

/// The answer of a process that has the fault.
pub(super) fn answer(
    process: &mut Process,
    count: u16,
    after: Option<Id>,
    fault: Fault,
) -> Result<Issued, Refusal> {
    let now_ms = process.clock_ms;
    let latest_ms = now_ms.max(process.expected.shared.millisecond());
    let ahead_ms = after
        .map(Id::millisecond)
        .filter(|after_ms| *after_ms > latest_ms);
    let before = process.issuer.clone();
    let issuer = &mut process.issuer;
    let answer = issuer.issue(now_ms, count, after);
    match (fault, answer, ahead_ms) {
        (Fault::ForgetsIssuedAhead, Ok(given), Some(_)) => {
            *issuer = before;
            // A request for zero ids only moves the shared sequence to the clock.
            issuer.issue(now_ms, 0, None)?;
            Ok(given)
        }
        (Fault::MovesTheSharedSequence, Ok(_), Some(after_ms)) => {
            *issuer = before;
            issuer.issue(after_ms + 1, count, None)
        }
        (Fault::AnswersTooFarAhead, Err(too_far), _) => {
            issuer.issue(now_ms, count, None).or(Err(too_far))
        }
        (Fault::RefusesItsOwnIds, _, Some(after_ms)) if after_ms > latest_ms + AFTER_MS => {
            Err(Refusal::AfterTooFar)
        }
        (Fault::OutrunsTheClock, Err(Refusal::AheadOfTheClock { by_ms }), None) => {
            issuer.issue(now_ms + by_ms, count, None)
        }
        (Fault::RestartsItsWindow, Err(Refusal::AheadOfTheClock { .. }), None) => {
            *issuer = Issuer::default();
            let (number, window) = process.expected.lease.ok_or(Refusal::OutOfWindow)?;
            issuer.grant(number, window);
            issuer.issue(now_ms, count, None)
        }
        (_, answer, _) => answer,
    }
}

/// The error that the simulation reports for a fault.
fn found(fault: Fault) -> String {
    let config = ProptestConfig {
        cases: 2_000,
        max_shrink_iters: 0,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let rng = TestRng::deterministic_rng(RngAlgorithm::ChaCha);
    let found = TestRunner::new_with_rng(config, rng).run(&steps(), |steps| {
        let ran = run(&steps, fault);
        ran.map(drop).map_err(TestCaseError::fail)
    });
    match found {
        Err(TestError::Fail(what, _)) => what.message().to_owned(),
        other => panic!("{fault:?} was not found: {other:?}"),
    }
}

#[test]
fn a_fault_in_the_log_or_in_the_windows_is_found_out() {
    for fault in [
        Fault::AppendsAnywhere,
        Fault::GrantsBeforeTheLog,
        Fault::StartsWithOldMemory,
    ] {
        let what = found(fault);
        let reasons = ["overlap", "no window", "was issued twice"];
        assert!(reasons.iter().any(|reason| what.contains(reason)), "{what}");
    }
}

#[test]
fn a_restore_without_a_floor_is_found_out() {
    let what = found(Fault::SetsNoFloor);
    assert!(what.contains("was issued twice"), "{what}");
}

#[test]
fn an_id_issued_ahead_and_again_is_found_out() {
    let what = found(Fault::ForgetsIssuedAhead);
    assert!(what.contains("was issued twice"), "{what}");
}

#[test]
fn a_shared_sequence_that_others_move_is_found_out() {
    let what = found(Fault::MovesTheSharedSequence);
    assert!(what.contains("is left out"), "{what}");
}

#[test]
fn an_answer_too_far_ahead_is_found_out() {
    let what = found(Fault::AnswersTooFarAhead);
    assert!(what.contains("Ok(Issued"), "{what}");
}

#[test]
fn a_process_that_outruns_its_clock_is_found_out() {
    let what = found(Fault::OutrunsTheClock);
    assert!(what.contains("leads the clock too far"), "{what}");
}

#[test]
fn a_process_that_waits_for_a_clock_that_stepped_back_far_is_found_out() {
    let what = found(Fault::KeepsItsNumber);
    assert!(what.contains("does not recover: AheadOfTheClock"), "{what}");
}

#[test]
fn a_process_that_restarts_its_window_is_found_out() {
    let what = found(Fault::RestartsItsWindow);
    let reasons = ["is left out", "Err(AfterTooFar)"];
    assert!(reasons.iter().any(|reason| what.contains(reason)), "{what}");
}

#[test]
fn the_simulation_does_issue_ids() {
    let append = |process, answered| Step::Append {
        process,
        written: true,
        answered,
    };
    let issue = |process, lead_ms| Step::Issue {
        process,
        count: 9,
        after: After::Near {
            lead_ms,
            worker: 0,
            sequence: 0,
        },
    };
    let steps = [
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
        append(0, false),
        append(1, true),
        append(0, true),
        issue(0, -5),
        issue(0, 1_500),
        issue(1, -5),
    ];
    let world = run(&steps, Fault::None).unwrap();
    assert_eq!(
        world.issued.len(),
        2 * 9,
        "one of the rivals got the number"
    );
}
