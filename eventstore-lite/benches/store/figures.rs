//! A closed loop of callers. Each caller makes its next call when the previous one is answered.

use std::time::{Duration, Instant};

use anyhow::Result;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use bench_machine::{cores, processor_time};

/// The figures of one row.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Calls or events per second.
    pub(crate) rate: f64,
    /// The latency of a call, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The client's share of the machine's processor time, 0 to 1.
    pub(crate) client: f64,
    /// The server's share.
    pub(crate) server: f64,
}

impl Figures {
    /// The rate and the 99th percentile beside those of another row.
    pub(crate) fn beside(&self, other: &Self) -> String {
        let slowest = |figures: &Self| float(figures.latency.value_at_quantile(0.99));
        format!(
            "{:.2} of its rate, {:.2} times its p99",
            self.rate / other.rate,
            slowest(self) / slowest(other)
        )
    }
}

/// A histogram of nanoseconds from 1 µs to 1 minute, with three significant digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}

/// The figures of a row that measured nothing but its client.
pub(crate) fn of_busy_client() -> Result<Figures> {
    Ok(Figures {
        rate: 1.0,
        latency: histogram()?,
        client: 1.0,
        server: 0.0,
    })
}

/// Measures the time and the processor time of client and server from its start to its stop.
pub(crate) struct Watch {
    began: Instant,
    server: u32,
    busy: [Duration; 2],
}

impl Watch {
    pub(crate) fn start(server: u32) -> Result<Self> {
        let busy = [processor_time(std::process::id())?, processor_time(server)?];
        Ok(Self {
            began: Instant::now(),
            server,
            busy,
        })
    }

    pub(crate) fn stop(self, count: u64, latency: Histogram<u64>) -> Result<Figures> {
        let took = self.began.elapsed().as_secs_f64();
        let share = |process, before: Duration| {
            let busy = processor_time(process)?.saturating_sub(before);
            anyhow::Ok(busy.as_secs_f64() / took / cores()?)
        };
        Ok(Figures {
            rate: float(count) / took,
            latency,
            client: share(std::process::id(), self.busy[0])?,
            server: share(self.server, self.busy[1])?,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(crate) fn float(count: u64) -> f64 {
    count as f64
}

/// One caller of a closed loop.
pub(crate) trait Caller: Send + 'static {
    /// Makes one call and checks its answer. Returns the number of calls or events to count.
    fn call(&mut self) -> impl Future<Output = Result<u64>> + Send;
}

/// Runs all callers for this long, after a warm-up of a fifth of it. Fails with the first unexpected answer.
pub(crate) async fn run<C: Caller>(
    callers: Vec<C>,
    server: u32,
    length: Duration,
) -> Result<Figures> {
    let (callers, ..) = work(callers, length / 5).await?;
    let watch = Watch::start(server)?;
    let (_, count, latency) = work(callers, length).await?;
    watch.stop(count, latency)
}

async fn work<C: Caller>(
    callers: Vec<C>,
    length: Duration,
) -> Result<(Vec<C>, u64, Histogram<u64>)> {
    let end = Instant::now() + length;
    let mut loops = JoinSet::new();
    for caller in callers {
        loops.spawn(work_until(caller, end));
    }
    let (mut callers, mut count, mut latency) = (Vec::new(), 0, histogram()?);
    while let Some(done) = loops.join_next().await {
        let (caller, counted, took) = done??;
        callers.push(caller);
        count += counted;
        latency.add(took)?;
    }
    Ok((callers, count, latency))
}

async fn work_until<C: Caller>(mut caller: C, end: Instant) -> Result<(C, u64, Histogram<u64>)> {
    let (mut count, mut latency) = (0, histogram()?);
    while Instant::now() < end {
        let began = Instant::now();
        count += caller.call().await?;
        latency.record(u64::try_from(began.elapsed().as_nanos())?)?;
    }
    Ok((caller, count, latency))
}
