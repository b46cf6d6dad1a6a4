//! `make bench`: throughput and latency over HTTP, beside an empty handler in the same run. `make bench-compare`: beside the
//! Node/Express design.
//!
//! Invariants: one unexpected answer, and there is no figure at all; what is compared was measured in one run, on one machine.
#![expect(clippy::print_stdout, reason = "a command whose output is its purpose")]

mod behind;
mod compare;
mod empty_handler;
mod generator;
mod late_store;
mod report;
mod visible;
mod work;

use crate::compare::CompareArguments;
use crate::report::Report;
use crate::work::Work;
use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use std::net::SocketAddr;
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
    /// Measures the services beside the Node/Express design that they replace.
    Compare(CompareArguments),
    /// What the services are compared with, as a process of its own; started by the measurement itself.
    EmptyHandler,
    /// A proxy that acknowledges as late as Linux allows, as a process of its own before the store at this address.
    LateStore {
        /// `host:port` of the store.
        store: SocketAddr,
    },
}

/// How many users GET reads in turn.
pub(crate) const KNOWN: usize = 256;

/// So many users are made for each second of deleting them; a row that has deleted all of them ends.
const DELETED_A_SECOND: usize = 1_500;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::Compare(arguments)) => compare::run(&arguments),
        Some(Role::EmptyHandler) => empty_handler::run(),
        Some(Role::LateStore { store }) => late_store::run(store),
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
    let mut report = prompt_store(arguments).await?;
    late_store(arguments, &mut report).await?;
    let behind = behind::measure(arguments.behind).await?;
    println!("{}\n{report}\n{behind}", bench_machine::describe()?);
    Ok(())
}

async fn prompt_store(arguments: &Arguments) -> Result<Report> {
    let broker = Node::own().await?;
    let system = System::of(&Part::WHOLE, broker, "info").await?;
    let mut empty = Process::new("empty", "bench", system.folder())?.argument("empty-handler");
    empty.start()?;
    let empty = Work::empty(empty.address().await?);
    let ids = Work::ids(system.address(Part::Uuids).context("uuids")?);
    let visible = visible::measure(&system.users()?, arguments.visible).await?;
    let mut report = Report::new(visible);
    for work in [empty, ids] {
        rows(&work, arguments, &mut report).await?;
    }
    users(&system, arguments, &mut report, |work| work).await?;
    system.end();
    Ok(report)
}

async fn late_store(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let broker = Node::own().await?;
    let url = broker.vhost().await;
    let mut system = System::prepare(&Part::WHOLE, broker, &url, "info")?;
    system.start_part(Part::Store).await?;
    let store = system.address(Part::Store).context("store")?;
    let mut late = Process::new("late-store", "bench", system.folder())?
        .argument("late-store")
        .argument(store.to_string());
    late.start()?;
    let late_store = late.address().await?;
    late_store::check(store, late_store).await?;
    system.move_store(late_store);
    for part in [Part::Uuids, Part::Serve] {
        system.start_part(part).await?;
    }
    system.ready().await?;
    users(&system, arguments, report, Work::late).await?;
    system.end();
    Ok(())
}

/// The rows of users-service, each kind of work as `named` has it.
async fn users(
    system: &System,
    arguments: &Arguments,
    report: &mut Report,
    named: fn(Work) -> Work,
) -> Result<()> {
    let address = system.address(Part::Serve).context("users")?;
    let known = work::seed(&system.users()?, KNOWN).await?;
    for work in [Work::get(address, known), Work::post(address)] {
        rows(&named(work), arguments, report).await?;
    }
    for connections in &arguments.connections {
        let count = DELETED_A_SECOND * usize::try_from(arguments.seconds)?;
        let ids = work::seed(&system.users()?, count).await?;
        row(
            &named(Work::delete(address, ids)),
            *connections,
            arguments,
            report,
        )
        .await?;
    }
    Ok(())
}

async fn rows(work: &Work, arguments: &Arguments, report: &mut Report) -> Result<()> {
    for connections in &arguments.connections {
        row(work, *connections, arguments, report).await?;
    }
    Ok(())
}

async fn row(
    work: &Work,
    connections: usize,
    arguments: &Arguments,
    report: &mut Report,
) -> Result<()> {
    eprintln!("measuring {} with {connections} connections", work.name());
    let seconds = Duration::from_secs(arguments.seconds);
    generator::run(work, connections, seconds / 5).await?;
    let figures = generator::run(work, connections, seconds).await?;
    report.add(work.name(), connections, figures)
}
