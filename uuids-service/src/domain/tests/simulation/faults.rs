//! Faults that are planted in the processes and in the log, and must be found; and that there is something to find.

use proptest::{
    prelude::*,
    test_runner::{RngAlgorithm, TestError, TestRng, TestRunner},
};

use super::{After, Step, process::Process, run, steps};
use crate::domain::{
    id::Id,
    issuer::{Issued, Issuer, Refusal},
};

/// One way to get it wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// The log takes an append whatever revision it expects.
    AppendsAnywhere,
    /// A process takes up a window before the log has it.
    DoesNotWaitForTheLog,
    /// A process starts with the memory of the one before it.
    StartsWithAnOldMemory,
    /// What was given to somebody who leads is forgotten.
    ForgetsWhatItGaveAhead,
    /// Whoever leads moves the shared sequence.
    FollowsWhoeverLeads,
    /// Whoever leads too far is answered all the same.
    AnswersBelow,
    /// Whoever outruns the clock is served.
    OutrunsTheClock,
    /// A clock that steps back far is waited for.
    KeepsItsNumber,
    /// After a step back it begins again in the window that it has.
    BeginsItsWindowAgain,
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
        (Fault::ForgetsWhatItGaveAhead, Ok(given), Some(_)) => {
            *issuer = before;
            // Asking for nothing only moves the shared sequence to the clock.
            issuer.issue(now_ms, 0, None)?;
            Ok(given)
        }
        (Fault::FollowsWhoeverLeads, Ok(_), Some(after_ms)) => {
            *issuer = before;
            issuer.issue(after_ms + 1, count, None)
        }
        (Fault::AnswersBelow, Err(too_far), _) => {
            issuer.issue(now_ms, count, None).or(Err(too_far))
        }
        (Fault::OutrunsTheClock, Err(Refusal::AheadOfTheClock { by_ms }), None) => {
            issuer.issue(now_ms + by_ms, count, None)
        }
        (Fault::BeginsItsWindowAgain, Err(Refusal::AheadOfTheClock { .. }), None) => {
            *issuer = Issuer::default();
            let (number, window) = process.expected.lease.ok_or(Refusal::OutOfWindow)?;
            issuer.grant(number, window);
            issuer.issue(now_ms, count, None)
        }
        (_, answer, _) => answer,
    }
}

/// What the simulation says of a fault.
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
        other => panic!("{fault:?} is not found: {other:?}"),
    }
}

#[test]
fn a_fault_in_the_log_or_in_the_windows_is_found_out() {
    for fault in [
        Fault::AppendsAnywhere,
        Fault::DoesNotWaitForTheLog,
        Fault::StartsWithAnOldMemory,
    ] {
        let what = found(fault);
        let reasons = ["overlap", "no window", "was issued twice"];
        assert!(reasons.iter().any(|reason| what.contains(reason)), "{what}");
    }
}

#[test]
fn an_id_that_was_given_ahead_and_again_is_found_out() {
    let what = found(Fault::ForgetsWhatItGaveAhead);
    assert!(what.contains("was issued twice"), "{what}");
}

#[test]
fn a_shared_sequence_that_others_move_is_found_out() {
    let what = found(Fault::FollowsWhoeverLeads);
    assert!(what.contains("is left out"), "{what}");
}

#[test]
fn an_answer_to_somebody_who_leads_too_far_is_found_out() {
    let what = found(Fault::AnswersBelow);
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
fn a_process_that_begins_its_window_again_is_found_out() {
    let what = found(Fault::BeginsItsWindowAgain);
    assert!(what.contains("is left out"), "{what}");
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
