//! `make bench`: throughput and latency over HTTP, beside an empty handler in the same run.
//!
//! Invariants: one unexpected answer, and there is no figure at all; what is compared was measured in one run, on one machine.
#![expect(clippy::print_stdout, reason = "a command whose output is its purpose")]

mod behind;
mod empty_handler;
mod generator;
mod report;
mod visible;
mod work;

use crate::report::Report;
use crate::work::Work;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use private_broker::PrivateBroker;
use std::process::ExitCode;
use std::time::Duration;
use system_tests::process::Process;
use system_tests::system::Node;
use system_tests::{Part, System};

/// Measures the services of this build over HTTP and prints what was measured, on what, and how.
#[derive(Debug, Parser)]
struct Arguments {
    /// How long each row is measured, in seconds, after as long a warm-up as a fifth of it.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// The numbers of connections to measure with.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// How many users are awaited in the list, one after the other.
    #[arg(long, default_value_t = 300)]
    visible: usize,
    /// How many users are missing in the list at once.
    #[arg(long, default_value_t = 50_000)]
    behind: usize,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// What the services are compared with, as a process of its own; started by the measurement itself.
    EmptyHandler,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::EmptyHandler) => empty_handler::run(),
        None => measure(&arguments),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("INVALID: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The report is printed when all of it is there: an invalid run shows no figure.
#[tokio::main]
async fn measure(arguments: &Arguments) -> Result<()> {
    let broker = Node::Own(Box::new(PrivateBroker::start().await?));
    let system = System::of(&Part::WHOLE, broker, "info").await?;
    let mut empty = Process::new("empty", "bench", system.folder())?.argument("empty-handler");
    empty.start()?;
    let empty_address = empty.address().await?;

    let users = system.address(Part::Serve).context("users")?;
    let uuids = system.address(Part::Uuids).context("uuids")?;
    let known = work::seed(&system.users()?).await?;
    let visible = visible::measure(&system.users()?, arguments.visible).await?;
    let mut report = Report::new(visible);
    for work in [
        Work::empty(empty_address),
        Work::ids(uuids),
        Work::get(users, known),
        Work::post(users),
    ] {
        for connections in &arguments.connections {
            eprintln!("measuring {} with {connections} connections", work.name());
            let seconds = Duration::from_secs(arguments.seconds);
            generator::run(&work, *connections, seconds / 5).await?;
            let figures = generator::run(&work, *connections, seconds).await?;
            report.add(work.name(), *connections, figures)?;
        }
    }
    system.end();
    let behind = behind::measure(arguments.behind).await?;
    println!("{}\n{report}\n{behind}", bench_machine::describe()?);
    Ok(())
}
