//! The rates of publisher, of the whole path, and of a rebuild.

use super::appended::append;
use super::bare_insertion;
use super::setup::{Prepared, Setup};
use crate::brokers::Brokers;
use anyhow::{Context as _, Result, ensure};
use event_streams::EventStreams;
use serde_json::Value;
use sqlx::AnyPool;
use std::collections::BTreeMap;
use std::fmt;
use std::process::Stdio;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use system_tests::system::Node;
use system_tests::{Part, wait};

/// A million users take minutes.
pub(super) const PATIENCE: Duration = Duration::from_mins(30);
const PAGE: usize = 10_000;

/// Users per second.
pub(super) struct PathRates {
    /// The publisher alone. Its messages stay in the queues.
    pub(super) publisher: f64,
    /// Publisher, broker and projector, from the start of the publisher until both read models have all users.
    pub(super) path: f64,
    /// The building of the list from the log, beside running roles that have nothing to do.
    pub(super) rebuild: f64,
    /// The bare insertion of the rows of the list.
    pub(super) insertion: f64,
}

impl fmt::Display for PathRates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            publisher,
            path,
            rebuild,
            insertion,
        } = self;
        write!(
            f,
            "publisher {publisher:.0}/s, whole path {path:.0}/s, rebuild {rebuild:.0}/s, bare insertion {insertion:.0}/s"
        )
    }
}

pub(super) async fn measure(brokers: Brokers, setup: Setup, users: usize) -> Result<PathRates> {
    let publisher = publisher(brokers.next().await?, setup, users).await?;
    let (prepared, path) = whole(brokers.next().await?, setup, users).await?;
    eprintln!("measuring a rebuild");
    let rebuild = rebuild(&prepared, setup, users).await?;
    let insertion = bare_insertion::measure(&prepared, setup, users).await?;
    prepared.system.end();
    Ok(PathRates {
        publisher,
        path,
        rebuild,
        insertion,
    })
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 users")]
pub(super) fn rate(users: usize, took: Duration) -> f64 {
    users as f64 / took.as_secs_f64()
}

/// From the publisher's first checkpoint to the last one that lies before the end, or at it if there are few users.
async fn publisher(broker: Node, setup: Setup, users: usize) -> Result<f64> {
    let mut prepared = Prepared::start(broker, setup, &[Part::Publisher]).await?;
    prepared.system.kill(Part::Projector)?;
    append(&prepared, users).await?;
    eprintln!("measuring the publisher");
    let store = prepared.system.store()?;
    let log = positions(&store).await?;
    ensure!(log.len() == users, "the log has {} users", log.len());
    prepared.system.start_part(Part::Publisher).await?;
    let checkpoints = Mutex::new(BTreeMap::new());
    wait::until_within(PATIENCE, "everything is published", || async {
        let checkpoint = store.read_last("publisher-users").await?;
        let checkpoint = checkpoint.context("no checkpoint yet")?;
        let data: Value = serde_json::from_slice(&checkpoint.data)?;
        let up_to = data["commit"].as_u64().context("a position")?;
        let published = log.partition_point(|position| *position <= up_to);
        lock(&checkpoints)
            .entry(published)
            .or_insert(checkpoint.created);
        ensure!(published == users, "{published}");
        Ok(())
    })
    .await?;
    let checkpoints = lock(&checkpoints);
    let mut before_the_end = checkpoints.range(1..users);
    let (last, end) = before_the_end
        .next_back()
        .or(checkpoints.last_key_value())
        .context("a checkpoint")?;
    let (first, begin) = checkpoints.first_key_value().context("a checkpoint")?;
    let took = Duration::from_millis(end.saturating_sub(*begin));
    ensure!(last > first, "too few users to measure the publisher");
    let rate = rate(last - first, took);
    prepared.system.end();
    Ok(rate)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The commit positions of all users' events.
async fn positions(store: &EventStreams) -> Result<Vec<u64>> {
    let (mut positions, mut after) = (Vec::new(), None);
    loop {
        let page = store.read_all(&["users-"], after, PAGE).await?;
        positions.extend(page.events.iter().map(|event| event.position.commit));
        after = page.position;
        if page.end {
            return Ok(positions);
        }
    }
}

/// The whole path. Fails unless both read models have exactly these users.
pub(super) async fn whole(broker: Node, setup: Setup, users: usize) -> Result<(Prepared, f64)> {
    let mut prepared = Prepared::start(broker, setup, &[Part::Publisher]).await?;
    append(&prepared, users).await?;
    eprintln!("measuring the whole path");
    let mut tables = Vec::new();
    for generation in setup.read_models() {
        tables.push(prepared.tables(generation).await?);
    }
    let began = Instant::now();
    prepared.system.start_part(Part::Publisher).await?;
    for tables in tables {
        until(&tables, "SELECT count(*) FROM ledger", users).await?;
    }
    let rate = rate(users, began.elapsed());
    prepared.check(setup, users).await?;
    let one_more = prepared.check(setup, users + 1).await;
    ensure!(one_more.is_err(), "a missing user was not noticed");
    Ok((prepared, rate))
}

/// From the first page that was applied to the last one.
async fn rebuild(prepared: &Prepared, setup: Setup, users: usize) -> Result<f64> {
    let mut command = prepared.rebuild_command(setup)?;
    let began = Instant::now();
    let mut command = command.stdout(Stdio::null()).spawn()?;
    let events = "SELECT events FROM completeness";
    let [mut next, _] = setup.read_models();
    next.generation += 1;
    let tables = wait::until("the generation has begun", || async {
        let tables = prepared.tables(next).await?;
        read(&tables, events).await?;
        Ok(tables)
    })
    .await?;
    let (first, since) = (read(&tables, events).await?, Instant::now());
    until(&tables, events, users).await?;
    let (took, in_all) = (since.elapsed(), began.elapsed());
    ensure!(command.wait()?.success(), "the rebuild failed");
    // A small list is there when it is looked at first.
    Ok(if first < users {
        rate(users - first, took)
    } else {
        rate(users, in_all)
    })
}

/// The number that this query gives.
async fn read(tables: &AnyPool, query: &'static str) -> Result<usize> {
    let number: i64 = sqlx::query_scalar(query).fetch_one(tables).await?;
    Ok(usize::try_from(number)?)
}

/// Waits until the query gives this number.
pub(super) async fn until(tables: &AnyPool, query: &'static str, number: usize) -> Result<()> {
    wait::until_within(PATIENCE, query, || async {
        let now = read(tables, query).await?;
        ensure!(now >= number, "{now}");
        Ok(())
    })
    .await
}
