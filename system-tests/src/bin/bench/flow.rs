//! `make bench-flow` measures the path from an event to the list, and the list itself.
//!
//! Invariants: publisher and projector are compared, in the same run, with a bare pump of the same messages to the same queues, and a
//! rebuild with the bare insertion of the same rows. A run whose read models lack a user, or have one too many, prints no figure.

mod appended;
mod bare_insertion;
mod lag;
mod lists;
mod path;
mod setup;

use crate::aim::Aim;
use crate::brokers::Brokers;
use crate::pump::{self, Sample};
use anyhow::{Context as _, Result};
use clap::Args;
use path::PathRates;
use setup::{Partitions, Setup};
use std::time::Duration;
use system_tests::system::Node;
use system_tests::{Part, System};
use users_service::integration::consumer::ReaderQueues;

/// The rate of the aim for the lag, in users per second.
const AIMED_RATE: u32 = 1_000;

/// The options of the bench.
#[derive(Debug, Args)]
pub(crate) struct FlowArguments {
    /// Number of users that go through the path, and of messages that the bare pump moves.
    #[arg(long, default_value_t = 50_000)]
    users: usize,
    /// Rates at which users are created while the lag is measured, per second.
    #[arg(long, value_delimiter = ',', default_value = "100,1000,3000")]
    rates: Vec<u32>,
    /// Duration of each measurement of lag and of list, in seconds.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Sizes of the lists, in users.
    #[arg(long, value_delimiter = ',', default_value = "1000,1000000")]
    sizes: Vec<usize>,
    #[command(flatten)]
    brokers: Brokers,
}

/// Prints the report only when it is complete, so that an invalid run prints no figure.
#[tokio::main]
pub(crate) async fn run(arguments: &FlowArguments) -> Result<()> {
    let seconds = Duration::from_secs(arguments.seconds);
    let mut report = Vec::new();
    let mut aims = Vec::new();
    let (sample, lags) = lags(arguments, seconds).await?;
    for (rate, lag) in lags {
        if rate == AIMED_RATE {
            aims.push(Aim::below("lag at 1,000/s: p99, ms", lag.p99(), 50.0));
        }
        report.push(format!(
            "from the 201 to the list, at {rate} users/s: {lag}"
        ));
    }
    for partitions in Partitions::ALL {
        let setups = Setup::with(partitions);
        eprintln!("measuring the broker, {partitions}");
        let pumped = pump_rates(&sample, setups[0].read_models(), arguments).await?;
        report.push(format!("{partitions}: {pumped}"));
        for setup in setups {
            let rates = path::measure(arguments.brokers, setup, arguments.users).await?;
            report.push(format!("{setup}: {rates}"));
            aims.extend(path_aims(setup, &rates, &pumped));
        }
    }
    let lists = lists::measure(arguments.brokers, &arguments.sizes, seconds).await?;
    aims.extend(lists.aims());
    println!("{}\n", bench_machine::describe()?);
    for line in report {
        println!("{line}");
    }
    println!("{lists}\n");
    for aim in aims {
        println!("{aim}");
    }
    Ok(())
}

/// The queues of both read models, unless somebody changes them.
pub(crate) fn read_models() -> [ReaderQueues; 2] {
    Setup::REAL.read_models()
}

/// Users per second through publisher, broker and projector, into SQLite and over four queues.
pub(crate) async fn whole_path(broker: Node, users: usize) -> Result<f64> {
    let (prepared, rate) = path::whole(broker, Setup::REAL, users).await?;
    prepared.system.end();
    Ok(rate)
}

async fn lags(
    arguments: &FlowArguments,
    seconds: Duration,
) -> Result<(Sample, Vec<(u32, lag::Lag)>)> {
    let system = System::of(&Part::ROLES, arguments.brokers.next().await?, "info").await?;
    let sample = Sample::take(&system).await?;
    let address = system.address(Part::Api).context("an API")?;
    let mut lags = Vec::new();
    for rate in &arguments.rates {
        eprintln!("measuring the lag at {rate} users/s");
        let lag = lag::measure(&system.users()?, address, *rate, seconds).await?;
        lags.push((*rate, lag));
    }
    system.end();
    Ok((sample, lags))
}

/// What the broker alone can do with the messages of the path, per second.
struct PumpRates {
    confirmed: f64,
    one_read_model: f64,
    both: f64,
}

impl std::fmt::Display for PumpRates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            confirmed,
            one_read_model,
            both,
        } = self;
        write!(
            f,
            "the broker confirms {confirmed:.0}/s; bare pump {both:.0}/s to two read models, {one_read_model:.0}/s to one"
        )
    }
}

async fn pump_rates(
    sample: &Sample,
    both: [ReaderQueues; 2],
    arguments: &FlowArguments,
) -> Result<PumpRates> {
    let (brokers, count) = (arguments.brokers, arguments.users);
    Ok(PumpRates {
        confirmed: pump::confirmed(&brokers.next().await?, sample, &both, count).await?,
        one_read_model: pump::measure(&brokers.next().await?, sample, &both[..1], count).await?,
        both: pump::measure(&brokers.next().await?, sample, &both, count).await?,
    })
}

fn path_aims(setup: Setup, rates: &PathRates, pumped: &PumpRates) -> [Aim; 3] {
    let name = |what: &str| format!("{setup}: {what}");
    [
        Aim::at_least(
            name("publisher / confirmed"),
            rates.publisher / pumped.confirmed,
            0.8,
        ),
        Aim::at_least(name("whole path / pump"), rates.path / pumped.both, 0.6),
        Aim::at_least(
            name("rebuild / bare insertion"),
            rates.rebuild / rates.insertion,
            0.7,
        ),
    ]
}
