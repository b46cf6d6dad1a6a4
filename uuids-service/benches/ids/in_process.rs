//! The issuer alone, on one core.

use std::{
    hint::black_box,
    time::{Duration, Instant},
};

use anyhow::Result;
use uuids_service::clock::{Clock as _, SystemClock};

use crate::{
    Answered,
    id::MILLISECONDS,
    issuer::{Issuer, Refusal},
    window::Window,
};

const COUNT: u16 = 10_000;

fn issuer() -> Issuer {
    let mut issuer = Issuer::default();
    let window = Window {
        from_ms: 0,
        until_ms: MILLISECONDS,
    };
    issuer.grant(5, window);
    issuer
}

/// With a clock that is always late enough: the speed of the code.
pub(crate) fn without_a_clock(length: Duration) -> Result<Answered> {
    let mut now_ms = 0;
    run(length, || {
        now_ms += 3;
        now_ms
    })
}

/// With the clock of this machine, which limits the ids to the layout's rate.
pub(crate) fn with_the_clock(length: Duration) -> Result<Answered> {
    run(length, || SystemClock.now_ms())
}

fn run(length: Duration, mut now_ms: impl FnMut() -> u64) -> Result<Answered> {
    let mut issuer = issuer();
    // The clock allows a second in advance. It is used up first.
    for _ in 0..500 {
        let _ = issuer.issue(now_ms(), COUNT, None);
    }
    let began = Instant::now();
    let mut ids = 0;
    while began.elapsed() < length {
        match issuer.issue(now_ms(), COUNT, None) {
            Ok(answer) => {
                for id in answer.ids() {
                    black_box(id);
                }
                ids += u64::from(COUNT);
            }
            Err(Refusal::AheadOfTheClock { .. }) => {}
            Err(refusal) => return Err(refusal.into()),
        }
    }
    let took = began.elapsed();
    Ok(Answered { ids, took })
}
