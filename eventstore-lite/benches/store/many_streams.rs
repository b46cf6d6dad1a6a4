//! A store with many events in many streams: the speed of filling it, of starting it and of reading one stream.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::figures::{Figures, Watch, histogram};
use crate::reads::{self, EVENTS_PER_STREAM};
use crate::report::Report;
use crate::store::Store;
use bench_machine::peak_memory;

/// The number of server starts.
const STARTS: usize = 5;

pub(crate) async fn measure(
    db: &Path,
    events: usize,
    length: Duration,
    report: &mut Report,
) -> Result<()> {
    let streams = (events / EVENTS_PER_STREAM).max(16);
    let store = Store::start(db).await?;
    let watch = Watch::start(store.id()?)?;
    reads::fill(&store, streams).await?;
    let filled = watch.stop(u64::try_from(streams * EVENTS_PER_STREAM)?, histogram()?);
    report.add("filling, events", 64, filled);
    store.stop().await?;
    report.heading(&format!(
        "{} events in {streams} streams",
        streams * EVENTS_PER_STREAM
    ));
    report.add("start-up", 1, starts(db).await);
    let store = Store::start(db).await?;
    reads::streams(&store, streams, length, report).await?;
    report.note(&format!("peak memory: {} MiB", peak_memory(store.id()?)?));
    store.stop().await
}

async fn starts(db: &Path) -> Result<Figures> {
    let (began, mut latency) = (Instant::now(), histogram()?);
    for _ in 0..STARTS {
        let store = Store::start(db).await?;
        latency.record(u64::try_from(store.startup_time.as_nanos())?)?;
        store.stop().await?;
    }
    Ok(Figures {
        rate: f64::from(u32::try_from(STARTS)?) / began.elapsed().as_secs_f64(),
        latency,
        client: 0.0,
        server: 0.0,
    })
}
