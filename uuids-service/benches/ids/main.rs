//! `make bench-ids` measures how fast ids are issued: in process, over HTTP and over RabbitMQ, against the layout's limit of
//! 4,096 ids a millisecond for one worker number.
//!
//! Invariants: the service is a process of its own. A run with an unexpected answer prints no figure.
#![expect(
    clippy::print_stdout,
    reason = "the output of this command is its purpose"
)]

mod amqp;
mod http;
mod in_process;
mod service;

// The service's own modules, which its library does not show.
#[expect(dead_code, reason = "only the issuer is measured")]
#[path = "../../src/domain/id.rs"]
mod id;
#[expect(dead_code, reason = "only the issuer is measured")]
#[path = "../../src/domain/issuer.rs"]
mod issuer;
#[expect(dead_code, reason = "only the issuer is measured")]
#[path = "../../src/domain/window.rs"]
mod window;

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use clap::Parser;

use crate::service::Service;

/// The most ids that one worker number can have in a second.
const LAYOUT_PER_SECOND: f64 = 4_096_000.0;
/// Ids in one request over HTTP or RabbitMQ.
const BATCH: usize = 1_000;

/// Measures this build of uuids-service and prints the figures, the machine and the method.
#[derive(Debug, Parser)]
struct Arguments {
    /// Duration of each measurement in seconds; a warm-up of a fifth of it comes first.
    #[arg(long, default_value_t = 3)]
    seconds: u64,
    /// Numbers of connections over HTTP, and of requests at once over RabbitMQ.
    #[arg(long, value_delimiter = ',', default_value = "1,4,16")]
    connections: Vec<usize>,
    /// The flag that `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// The requests that were answered, and how long that took.
pub(crate) struct Answered {
    pub(crate) ids: u64,
    pub(crate) took: Duration,
}

#[tokio::main]
async fn main() -> ExitCode {
    match measure(&Arguments::parse()).await {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            println!("INVALID: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<String> {
    let length = Duration::from_secs(arguments.seconds);
    let mut rows = vec![
        bench_machine::describe()?,
        row(
            "in process, one core, no clock",
            &in_process::without_a_clock(length)?,
        ),
        row("in process, one core", &in_process::with_the_clock(length)?),
    ];
    let service = Service::start().await?;
    // The ids may lead the clock by a second. A fast start uses that up, so that no row is above the layout's rate.
    http::run(&service, "application/json", 4, 2 * length).await?;
    for connections in &arguments.connections {
        for form in ["application/json", "text/plain"] {
            http::run(&service, form, *connections, length / 5).await?;
            let answered = http::run(&service, form, *connections, length).await?;
            let name = format!("HTTP, count={BATCH}, {form}, {connections} connections");
            rows.push(row(&name, &answered));
        }
    }
    for at_once in &arguments.connections {
        amqp::run(&service, *at_once, length / 5).await?;
        let answered = amqp::run(&service, *at_once, length).await?;
        let name = format!("RabbitMQ, count={BATCH}, {at_once} at once");
        rows.push(row(&name, &answered));
    }
    Ok(rows.join("\n"))
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 ids")]
fn row(name: &str, answered: &Answered) -> String {
    let rate = answered.ids as f64 / answered.took.as_secs_f64();
    let share = rate / LAYOUT_PER_SECOND * 100.0;
    format!("{name:<50} {rate:>12.0} ids/s {share:>6.1} % of the layout's rate")
}
