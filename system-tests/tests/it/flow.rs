//! Faults on the path publisher, broker, projector, under traffic. Nothing is lost, invented, applied twice or out of order, for
//! the read model and for another team's consumer; nobody reads a list without its own writes; and no command fails.
//!
//! Each test prints its counts, and each checker finds a planted fault in the same run. `SYSTEM_TESTS_FLOW=long` makes faults
//! last as long as they say. `SYSTEM_TESTS_FLOW_KILLS` is the number of kills at each place of the code; the default is 3.

mod broker_faults;
mod crash_places;
mod deadly;
mod lines;
mod rebuilds;
mod strangers;
mod topology;

use anyhow::{Context as _, Result};
use private_broker::PrivateBroker;
use serde_json::Value;
use std::time::Duration;
use system_tests::process::Process;
use system_tests::traffic::Traffic;
use tokio::time::Instant;

/// The queues of the list.
const QUEUES: [&str; 4] = [
    "users.directory.g1.0",
    "users.directory.g1.1",
    "users.directory.g1.2",
    "users.directory.g1.3",
];

/// The executable with failpoints.
const PROGRAM: &str = "users-service-failpoints";

/// Lets a process end at these places of its code from its next start on.
fn set_places(process: &mut Process, places: &str) -> Result<()> {
    process.set_program(PROGRAM)?;
    process.set_variable("FAILPOINTS", places);
    Ok(())
}

/// The number of messages in these queues of a virtual host, delivered or not, as the broker last counted them.
async fn waiting(broker: &PrivateBroker, amqp_url: &str, queues: &[&str]) -> Result<u64> {
    let vhost = amqp_url.rsplit('/').next().context("a virtual host")?;
    let mut waiting = 0;
    for queue in queues {
        let path = format!("queues/{vhost}/{queue}");
        let queue = broker.management("GET", &path, &Value::Null).await?;
        waiting += queue["messages"].as_u64().unwrap_or(0);
    }
    Ok(waiting)
}

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
