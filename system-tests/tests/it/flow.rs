//! Faults on the path publisher, broker, projector, under traffic. Nothing is lost, invented, applied twice or out of order, for
//! the read model and for another team's consumer; nobody reads a list without its own writes; and no command fails.
//!
//! Each test prints its counts, and each checker finds a planted fault in the same run. `SYSTEM_TESTS_FLOW=long` makes faults
//! last as long as they say. `SYSTEM_TESTS_FLOW_KILLS` is the number of kills at each place of the code; the default is 3.

mod broker_faults;
mod crash_places;
mod lines;
mod strangers;
mod topology;

use anyhow::Result;
use std::time::Duration;
use system_tests::traffic::Traffic;
use tokio::time::Instant;

/// The longer of two durations if the long form of the tests runs.
fn in_long_form<T>(short: T, long: T) -> T {
    let form = std::env::var("SYSTEM_TESTS_FLOW");
    if form.is_ok_and(|form| form == "long") {
        long
    } else {
        short
    }
}

/// Lets a fault last so long, while commands go on being acknowledged.
async fn last(traffic: &Traffic, time: Duration) -> Result<()> {
    let end = Instant::now() + time;
    while Instant::now() < end {
        traffic.more(10).await?;
    }
    Ok(())
}
