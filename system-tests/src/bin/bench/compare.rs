//! `make bench-compare` compares the services with the Node/Express design that they replace, and their read model with
//! a bare pump.
//!
//! Invariants: the systems run one after the other. Each gets a new store and broker of the same kind, and the same
//! requests from the same generator. An acknowledged user that is not stored counts as lost. The run is invalid if
//! users-service loses a user, or if the baseline is much slower than its framework.

mod baseline;
mod measured;
mod stored;
mod table;

use crate::aim::Aim;
use crate::brokers::Brokers;
use crate::flow;
use crate::generator::{self, Figures};
use crate::pump::{self, Sample};
use crate::work::{self, Work};
use anyhow::{Context, Result, bail, ensure};
use baseline::Baseline;
use clap::{Args, ValueEnum};
use measured::Measured;
use serde_json::Value;
use std::collections::HashSet;
use std::time::{Duration, Instant};
use stored::StoredUsers;
use system_tests::client::id;
use system_tests::{Part, System, Users, wait};
use table::Table;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The number of connections of a row with many connections.
const MANY: usize = 64;
/// The lower rates, in requests per second, to try if the baseline loses users at its full rate.
const RATES: [u32; 3] = [3_000, 2_000, 1_000];
/// The time from which ids count, 2015-01-01, in milliseconds since the Unix epoch.
const ID_EPOCH: i64 = 1_420_070_400_000;
/// The size of a page of the list.
const PAGE: usize = 1_000;
/// The number of newest users whose presence shows that the list has caught up. Each partition delivers its users in
/// order and has many of these.
const NEWEST: usize = 2 * PAGE;

/// The options of the comparison.
#[derive(Debug, Args)]
pub(crate) struct CompareArguments {
    /// Duration of each measurement in seconds, after a short warm-up.
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// Duration of each measurement of POST with 64 connections, in seconds.
    #[arg(long, default_value_t = 60)]
    load: u64,
    /// Number of users that the list must catch up with, and of messages that the bare pump moves.
    #[arg(long, default_value_t = 50_000)]
    behind: usize,
    /// Smallest valid ratio of the baseline's rate to that of its bare route. A debug build of the store slows the
    /// baseline down.
    #[arg(long, default_value_t = 0.25)]
    floor: f64,
    #[command(flatten)]
    brokers: Brokers,
    /// Plants a fault, which the run must report.
    #[arg(long, value_enum)]
    plant: Option<Plant>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Plant {
    /// The baseline pauses for two seconds in each POST.
    SlowBaseline,
    /// One acknowledged user of users-service is not stored.
    LostUser,
}

/// The rows of one system that the aims use.
struct Rows {
    many: Measured,
    one: Measured,
}

/// Prints the report only when it is complete, so that an invalid run prints no figure.
#[tokio::main]
pub(crate) async fn run(arguments: &CompareArguments) -> Result<()> {
    let mut table = Table::default();
    if arguments.plant == Some(Plant::LostUser) {
        // This fault concerns users-service alone, so the baseline need not run.
        ours(arguments, &mut table).await?;
        bail!("the planted lost user was not reported");
    }
    let node = node(arguments, &mut table).await?;
    let (ours, lag, sample) = ours(arguments, &mut table).await?;
    let path = flow::whole_path(arguments.brokers.next().await?, arguments.behind).await?;
    eprintln!("measuring the bare pump");
    let broker = arguments.brokers.next().await?;
    let pump = pump::measure(&broker, &sample, &flow::read_models(), arguments.behind).await?;
    let aims = [
        Aim::at_least(
            "POST, 64 connections: ours / Node",
            ours.many.rate / node.many.rate,
            1.5,
        ),
        Aim::at_least(
            "POST, 1 connection: ours / Node",
            ours.one.rate / node.one.rate,
            1.0,
        ),
        Aim::below(
            "POST, 64 connections: p99 of ours / Node",
            ours.many.p99 / node.many.p99,
            1.0,
        ),
        Aim::below(
            "lag of the list at the end of the load, s",
            lag.as_secs_f64(),
            1.0,
        ),
        Aim::at_least("catching up / bare pump", path / pump, 0.6),
    ];
    println!("{}\n{table}", bench_machine::describe()?);
    println!(
        "{} users through publisher, broker and projector: {path:.0}/s; as many messages through the bare pump: {pump:.0}/s\n",
        arguments.behind
    );
    for aim in aims {
        println!("{aim}");
    }
    Ok(())
}

async fn node(arguments: &CompareArguments, table: &mut Table) -> Result<Rows> {
    let system = System::of(
        &[Part::Store, Part::Uuids],
        arguments.brokers.next().await?,
        "info",
    )
    .await?;
    let slow = arguments.plant == Some(Plant::SlowBaseline);
    let baseline = Baseline::start(&system, slow).await?;
    table.baseline(baseline.versions().await?);
    let address = baseline.address();
    let users = Users::new(&format!("http://{address}"))?;
    let mut stored = StoredUsers::new(system.store()?);
    let seconds = Duration::from_secs(arguments.seconds);

    let bare = row("bare Express", &Work::bare(address), MANY, seconds, None).await?;
    let bare_rate = bare.rate;
    table.add("bare Express, POST", MANY, bare, None);

    let known = work::seed(&users, crate::KNOWN).await?;
    baseline.until_drained().await?;
    let get = row("Node", &Work::get(address, known), MANY, seconds, None).await?;
    table.add("Node, GET /{id}", MANY, get, None);

    let mut post = async |connections, length, rate, name: &str| -> Result<(Measured, usize)> {
        let work = Work::post(address);
        let figures = row("Node", &work, connections, length, rate).await?;
        let measured = Measured::of(&figures);
        baseline.until_drained().await?;
        let fate = stored.fate(&work.acknowledged()).await?;
        let lost = fate.lost;
        table.add(name, connections, figures, Some(fate));
        Ok((measured, lost))
    };
    let (one, _) = post(1, seconds, None, "Node, POST /").await?;
    let load = Duration::from_secs(arguments.load);
    let (many, mut lost) = post(MANY, load, None, "Node, POST /").await?;
    measured::check_baseline(many.rate, bare_rate, arguments.floor)?;
    for rate in RATES {
        if lost > 0 {
            let name = format!("Node, POST / at {rate}/s");
            (_, lost) = post(MANY, load, Some(rate), &name).await?;
        }
    }
    system.end();
    Ok(Rows { many, one })
}

async fn ours(arguments: &CompareArguments, table: &mut Table) -> Result<(Rows, Duration, Sample)> {
    let system = System::of(&Part::WHOLE, arguments.brokers.next().await?, "info").await?;
    let address = system
        .address(Part::Serve)
        .context("the system has users-service")?;
    let users = system.users()?;
    let sample = Sample::take(&system).await?;
    let mut stored = StoredUsers::new(system.store()?);
    let seconds = Duration::from_secs(arguments.seconds);

    let known = work::seed(&users, crate::KNOWN).await?;
    let get = row(
        "users-service",
        &Work::get(address, known),
        MANY,
        seconds,
        None,
    )
    .await?;
    table.add("users-service, GET /{id}", MANY, get, None);

    let mut post = async |connections, length, plant| -> Result<(Measured, Duration)> {
        let work = Work::post(address);
        let figures = row("users-service", &work, connections, length, None).await?;
        let measured = Measured::of(&figures);
        let mut acknowledged = work.acknowledged();
        acknowledged.sort_unstable();
        let lag = until_listed(&users, &acknowledged).await?;
        acknowledged.extend(plant);
        let mut fate = stored.fate(&acknowledged).await?;
        ensure!(
            fate.lost == 0,
            "users-service lost {} of {} acknowledged users",
            fate.lost,
            acknowledged.len()
        );
        fate.listed = Some(listed(&users, &acknowledged).await?);
        table.add("users-service, POST /", connections, figures, Some(fate));
        Ok((measured, lag))
    };
    // No real id is this small.
    let plant = (arguments.plant == Some(Plant::LostUser)).then_some(1);
    let (one, _) = post(1, seconds, plant).await?;
    let (many, lag) = post(MANY, Duration::from_secs(arguments.load), None).await?;
    system.end();
    Ok((Rows { many, one }, lag, sample))
}

async fn row(
    system: &str,
    work: &Work,
    connections: usize,
    length: Duration,
    rate: Option<u32>,
) -> Result<Figures> {
    let name = format!("{system}, {}", work.name());
    eprintln!("measuring {name} with {connections} connections");
    let warm_up = (length / 5).min(Duration::from_secs(2));
    generator::run_at(work, connections, warm_up, rate).await?;
    let figures = generator::run_at(work, connections, length, rate).await?;
    crate::report::check_generator(&name, connections, &figures)?;
    Ok(figures)
}

/// Waits until the list has the newest of these users, who are in the order of their ids. Returns the time that this
/// took.
async fn until_listed(users: &Users, acknowledged: &[u64]) -> Result<Duration> {
    let began = Instant::now();
    let newest = &acknowledged[acknowledged.len().saturating_sub(NEWEST)..];
    let filter = created_around(newest[0])?;
    wait::until("the newest users are listed", || async {
        let listed = users.list_of(PAGE, &filter).await?;
        let listed: HashSet<u64> = numbers(&listed).into_iter().collect();
        ensure!(newest.iter().all(|id| listed.contains(id)), "not yet");
        Ok(())
    })
    .await?;
    Ok(began.elapsed())
}

/// The filter for users that were created at the time of this id, or later. Ids are fetched some time before they are used, and the
/// clocks of the ids may lead by a few seconds.
fn created_around(id: u64) -> Result<String> {
    let millis = ID_EPOCH + i64::try_from(id >> 22)? - 10_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(i128::from(millis) * 1_000_000)?;
    Ok(format!("&created_after={}", time.format(&Rfc3339)?))
}

/// The number of these users that are in the list.
async fn listed(users: &Users, acknowledged: &[u64]) -> Result<usize> {
    let listed = users.list(PAGE).await?;
    let listed: HashSet<u64> = numbers(&listed).into_iter().collect();
    Ok(acknowledged.iter().filter(|id| listed.contains(id)).count())
}

fn numbers(users: &[Value]) -> Vec<u64> {
    let number = |user| id(user).parse().unwrap_or_default();
    users.iter().map(number).collect()
}
