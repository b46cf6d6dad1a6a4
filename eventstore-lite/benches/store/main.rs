//! `make bench-store` measures the server through its official client. The same run measures the disk, SQLite alone and
//! gRPC alone for comparison.
//!
//! Invariants: server and client are separate processes. A row with an unexpected answer is INVALID and has no figure,
//! and the run fails.
#![expect(
    clippy::print_stdout,
    reason = "the output of this command is its purpose"
)]

mod appends;
mod disk;
mod fan_out;
mod figures;
mod from_memory;
mod many_streams;
mod reads;
mod report;
mod round_trip;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::report::Report;
use crate::store::Store;

/// Measures this build of eventstore-lite and prints the figures, the machine and the method.
#[derive(Debug, Parser)]
struct Arguments {
    /// Duration of each measurement in seconds; a warm-up of a fifth of it comes first.
    #[arg(long, default_value_t = 5)]
    seconds: u64,
    /// Numbers of concurrent writers.
    #[arg(long, value_delimiter = ',', default_value = "1,16,64,256")]
    writers: Vec<usize>,
    /// Numbers of subscribers.
    #[arg(long, value_delimiter = ',', default_value = "1,100,1000")]
    subscribers: Vec<usize>,
    /// Number of events in the store for the measurements of start-up and stream reads, ten in each stream.
    #[arg(long, env = "EVENTS", default_value_t = 200_000)]
    events: usize,
    /// Folder for the temporary databases. Its disk is the one that is measured.
    #[arg(long, default_value_os_t = std::env::temp_dir())]
    folder: PathBuf,
    /// Measures only these parts.
    #[arg(long, value_enum, value_delimiter = ',')]
    only: Vec<Part>,
    /// Runs as the server that the store is compared with. The measurement starts it by itself.
    #[arg(long, hide = true)]
    serve_from_memory: bool,
    /// The flag that `cargo bench` passes to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    Disk,
    RoundTrips,
    Appends,
    Batches,
    Reads,
    FanOut,
    ManyStreams,
}

impl Arguments {
    fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }

    fn length(&self) -> Duration {
        Duration::from_secs(self.seconds)
    }
}

/// Prints the report when it is complete.
#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.serve_from_memory {
        return match from_memory::serve().await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                println!("the server failed: {error:#}");
                ExitCode::FAILURE
            }
        };
    }
    match measure(&arguments).await {
        Ok(report) => {
            println!("{report}");
            if report.is_valid() {
                ExitCode::SUCCESS
            } else {
                ExitCode::FAILURE
            }
        }
        Err(error) => {
            println!("INVALID: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn measure(arguments: &Arguments) -> Result<Report> {
    let mut report = Report::new(bench_machine::describe()?);
    let folder = tempfile::tempdir_in(&arguments.folder)?;
    let length = arguments.length();
    if arguments.has(Part::Disk) {
        disk::measure(folder.path(), length, &mut report)?;
    }
    let store = Store::start(&folder.path().join("db")).await?;
    report.control(
        "control: a wrong answer",
        appends::wrong_answer(&store).await,
    )?;
    report.control("control: a busy client", figures::of_busy_client())?;
    if arguments.has(Part::RoundTrips) {
        round_trip::measure(&store, &arguments.writers, length, &mut report).await?;
    }
    if arguments.has(Part::Appends) {
        appends::calls(&store, &arguments.writers, length, &mut report).await?;
    }
    if arguments.has(Part::Batches) {
        appends::sessions(&store, &arguments.writers, length, &mut report).await?;
    }
    if arguments.has(Part::Reads) {
        reads::measure(&store, length, &mut report).await?;
    }
    if arguments.has(Part::FanOut) {
        fan_out::measure(&store, &arguments.subscribers, &mut report).await?;
    }
    store.stop().await?;
    if arguments.has(Part::ManyStreams) {
        let db = folder.path().join("many");
        many_streams::measure(&db, arguments.events, length, &mut report).await?;
    }
    Ok(report)
}
