//! `uuids-service restored`: after the event store was restored from a backup, no later window begins before a floor.
//!
//! A restored log has forgotten the windows that were granted after the backup. The floor lies above them, so their ids are
//! not issued again. The command can be repeated, and several may run at once.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use event_streams::{AppendError, EventStreams};
use futures::{StreamExt as _, TryStreamExt as _, stream};

use crate::{
    clock::Clock,
    config::RestoredConfig,
    domain::{
        id::WORKERS,
        window::{NumberCommand, RaiseFloor, Tenure, WindowRefused},
    },
    stored_event,
    window_record::RecordFile,
    worker_numbers::{KnownNumber, WorkerNumbers},
};

/// How far the floor may be above the clock and above all windows. A floor is never lowered, so a slip of the hand must not
/// end the issuing of ids for years.
const FURTHEST_AHEAD: Duration = Duration::from_hours(1);
/// How many worker numbers are read and written at once.
const AT_ONCE: usize = 64;
/// How often a conflicting append is decided again.
const ATTEMPTS: usize = 10;

/// Sets the floor. Fails, with the reason and what to do, if a process may be running, if the floor is below a window, or if
/// it is far above the clock.
///
/// # Errors
/// See above; also when the event store is unavailable or the record of windows cannot be read.
pub async fn run(config: &RestoredConfig, clock: &dyn Clock) -> anyhow::Result<()> {
    let record = RecordFile::open(&config.windows.data)?.read()?;
    let numbers = WorkerNumbers::new(EventStreams::connect(&config.windows.eventstore_url)?);
    let floor = RaiseFloor {
        floor_ms: config.floor_ms,
        now_ms: clock.now_ms(),
    };
    let known: Vec<KnownNumber> = stream::iter(0..WORKERS)
        .map(|worker| numbers.look(worker))
        .buffer_unordered(AT_ONCE)
        .try_filter_map(async |known| Ok(known))
        .try_collect()
        .await?;
    let recorded_ms = record.map_or(0, |record| record.until_ms);
    check(floor, recorded_ms, &known)?;
    let raised = stream::iter(known)
        .map(|known| raise(&numbers, known, floor))
        .buffer_unordered(AT_ONCE);
    raised.try_collect::<()>().await?;
    record_floor(&numbers, floor.floor_ms).await
}

/// Checks the floor against all that is known, before anything is written.
fn check(floor: RaiseFloor, recorded_ms: u64, known: &[KnownNumber]) -> anyhow::Result<()> {
    for number in known {
        decide(number, floor)?;
    }
    ensure!(
        floor.floor_ms >= recorded_ms,
        "the floor is too low: this machine had a window until {recorded_ms}"
    );
    let ends = known.iter().map(|number| match number.tenure {
        Tenure::Granted(last) => last.window.until_ms,
        Tenure::Unused | Tenure::Spoiled => 0,
    });
    let latest_ms = ends.max().unwrap_or(0).max(recorded_ms).max(floor.now_ms);
    let furthest_ms = latest_ms.saturating_add(FURTHEST_AHEAD.as_millis().try_into()?);
    ensure!(
        floor.floor_ms <= furthest_ms,
        "the floor is more than an hour above the clock and all windows, which end at {latest_ms}; \
         it is in milliseconds since 2015-01-01T00:00:00Z"
    );
    Ok(())
}

/// Appends the floor to one number.
async fn raise(
    numbers: &WorkerNumbers,
    mut known: KnownNumber,
    floor: RaiseFloor,
) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        let Some(event) = decide(&known, floor)? else {
            return Ok(());
        };
        match numbers.append(&known, stored_event::store(&event)).await {
            Ok(()) | Err(AppendError::StreamDeleted) => return Ok(()),
            Err(AppendError::Conflict { .. }) => {}
            Err(
                failure @ (AppendError::Unavailable(_)
                | AppendError::TooLarge
                | AppendError::NotWritten),
            ) => {
                return Err(failure.into());
            }
        }
        known = match numbers.look(known.worker).await? {
            Some(known) => known,
            None => return Ok(()),
        };
    }
    bail!("worker number {} changes all the time", known.worker)
}

fn decide(
    known: &KnownNumber,
    floor: RaiseFloor,
) -> anyhow::Result<Option<crate::domain::window::WindowGranted>> {
    let worker = known.worker;
    known
        .decide(NumberCommand::RaiseFloor(floor))
        .map_err(|refused| match refused {
            WindowRefused::InUse { until_ms } => {
                let seconds = (until_ms - floor.now_ms).div_ceil(1_000);
                anyhow::anyhow!(
                    "a process may be running: worker number {worker} has a window until {until_ms}. Stop every uuids \
                     process, and try again in {seconds} s"
                )
            }
            WindowRefused::FloorTooLow { until_ms } => anyhow::anyhow!(
                "the floor is too low: worker number {worker} has a window until {until_ms}"
            ),
            WindowRefused::Held | WindowRefused::PastTheLayout | WindowRefused::Spoiled => {
                anyhow::Error::new(refused)
            }
        })
}

/// Tells processes that saw a window which the restored log lacks that they may take worker numbers again.
async fn record_floor(numbers: &WorkerNumbers, floor_ms: u64) -> anyhow::Result<()> {
    for _ in 0..ATTEMPTS {
        let last = numbers.floor().await?;
        if last.is_some_and(|(last_ms, _)| last_ms >= floor_ms) {
            return Ok(());
        }
        let revision = last.map(|(_, revision)| revision);
        match numbers.record_floor(floor_ms, revision).await {
            Err(AppendError::Conflict { .. }) => {}
            outcome => return outcome.context("the floor is set but not recorded; try again"),
        }
    }
    bail!("the recorded floor changes all the time")
}
