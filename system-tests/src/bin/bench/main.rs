//! `make bench` measures throughput and latency over HTTP, and an empty handler in the same run for comparison. `make
//! bench-compare` compares the services with the Node/Express design. `make bench-flow` measures the path from an event to the list.
//!
//! Invariants: a run with an unexpected answer prints no figure. All compared figures come from one run on one machine.
#![expect(
    clippy::print_stdout,
    reason = "the output of this command is its purpose"
)]

mod aim;
mod brokers;
mod compare;
mod empty_handler;
mod flow;
mod generator;
mod histories;
mod late_store;
mod pump;
mod report;
mod steps;
mod visible;
mod work;

use crate::compare::CompareArguments;
use crate::flow::FlowArguments;
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

/// Measures this build of the services over HTTP and prints the figures, the machine and the method.
#[derive(Debug, Parser)]
struct Arguments {
    /// Duration of each measurement in seconds; a warm-up of a fifth of it comes first.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Numbers of connections.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64")]
    connections: Vec<usize>,
    /// Number of users whose delay until the list shows them is measured.
    #[arg(long, default_value_t = 300)]
    visible: usize,
    /// Numbers of events of the users whose reads are measured.
    #[arg(long, value_delimiter = ',', default_value = "1,1000,100000")]
    events: Vec<usize>,
    #[command(subcommand)]
    role: Option<Role>,
}

#[derive(Debug, Subcommand)]
enum Role {
    /// Compares the services with the Node/Express design that they replace.
    Compare(CompareArguments),
    /// Measures the path from an event to the list, and the list itself.
    Flow(FlowArguments),
    /// Serves the empty handler. The measurement starts this process itself.
    EmptyHandler,
    /// Serves a proxy in front of the store that acknowledges as late as Linux allows. The measurement starts this
    /// process itself.
    LateStore {
        /// Address of the store, `host:port`.
        store: SocketAddr,
    },
}

/// The number of users that the GET requests read in turn.
pub(crate) const KNOWN: usize = 256;

/// The number of connections that change one user.
const WRITERS: usize = 8;

/// The number of users to create for each second of deleting. A row ends early when it has deleted all of them.
const DELETED_PER_SECOND: usize = 1_500;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let outcome = match arguments.role {
        Some(Role::Compare(arguments)) => compare::run(&arguments),
        Some(Role::Flow(arguments)) => flow::run(&arguments),
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

/// Prints the report only when it is complete, so that an invalid run prints no figure.
#[tokio::main]
async fn measure(arguments: &Arguments) -> Result<()> {
    let mut report = prompt_store(arguments).await?;
    late_store(arguments, &mut report).await?;
    long_histories(arguments, &mut report).await?;
    let steps = steps::measure(Node::own().await?, arguments).await?;
    println!("{}\n{report}\n{steps}", bench_machine::describe()?);
    Ok(())
}

async fn prompt_store(arguments: &Arguments) -> Result<Report> {
    let broker = Node::own().await?;
    let system = System::of(&Part::WHOLE, broker, "info").await?;
    let mut empty = Process::new("empty", "bench", system.folder())?.argument("empty-handler");
    empty.start()?;
    let empty = Work::empty(empty.address().await?);
    let ids = Work::ids(
        system
            .address(Part::Uuids)
            .context("the system has uuids-service")?,
    );
    let visible = visible::measure(&system.users()?, arguments.visible).await?;
    let mut report = Report::new(visible);
    if !arguments.connections.contains(&WRITERS) {
        row(&empty, WRITERS, arguments, &mut report).await?;
    }
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
    let store = system
        .address(Part::Store)
        .context("the system has a store")?;
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

/// Measures reads of users with few and many events. No publisher runs, because it would be busy with these events.
async fn long_histories(arguments: &Arguments, report: &mut Report) -> Result<()> {
    let broker = Node::own().await?;
    let system = System::of(&histories::PARTS, broker, "info").await?;
    let address = system.address(Part::Api).context("an API")?;
    for events in &arguments.events {
        let user = histories::user_with(&system, *events).await?;
        let work = Work::get_long(address, user, *events);
        rows(&work, arguments, report).await?;
    }
    system.end();
    Ok(())
}

/// Measures the rows of users-service. `named` adapts the name of each kind of work.
async fn users(
    system: &System,
    arguments: &Arguments,
    report: &mut Report,
    named: fn(Work) -> Work,
) -> Result<()> {
    let address = system
        .address(Part::Serve)
        .context("the system has users-service")?;
    let known = work::seed(&system.users()?, KNOWN).await?;
    let get = Work::get(address, known);
    for work in [get, Work::post(address), Work::post(address).keyed()] {
        rows(&named(work), arguments, report).await?;
    }
    let one = work::seed(&system.users()?, 1).await?;
    let patch = named(Work::patch(address, one[0].clone()));
    row(&patch, WRITERS, arguments, report).await?;
    for connections in &arguments.connections {
        let count = DELETED_PER_SECOND * usize::try_from(arguments.seconds)?;
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
