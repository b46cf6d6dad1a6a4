//! A closed-loop generator. Each connection sends its next request when the previous one is answered.

use crate::work::Work;
use anyhow::{Result, ensure};
use hdrhistogram::Histogram;
use http_body_util::BodyExt;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

type Body = http_body_util::Full<hyper::body::Bytes>;

/// The figures of one row.
#[derive(Debug)]
pub(crate) struct Figures {
    /// Answers per second.
    pub(crate) rate: f64,
    /// The time from sending a request to the end of its answer, in nanoseconds.
    pub(crate) latency: Histogram<u64>,
    /// The generator's share of the machine's processor time, 0 to 1.
    pub(crate) generator: f64,
}

/// A histogram of nanoseconds from 1 µs to 1 minute, with three significant digits.
pub(crate) fn histogram() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1_000, 60_000_000_000, 3)?)
}

/// Sends requests for this long over this many connections. Fails with the first unexpected answer.
pub(crate) async fn run(work: &Work, connections: usize, length: Duration) -> Result<Figures> {
    run_at(work, connections, length, None).await
}

/// The same, with at most `rate` evenly spaced requests per second. Without a rate the requests go as fast as possible.
pub(crate) async fn run_at(
    work: &Work,
    connections: usize,
    length: Duration,
    rate: Option<u32>,
) -> Result<Figures> {
    let mut senders = Vec::new();
    for _ in 0..connections {
        senders.push(connect(work).await?);
    }
    let busy = bench_machine::own_processor_time()?;
    let began = Instant::now();
    let pace = rate.map(|rate| Arc::new(Pace::new(began, rate)));
    let mut loops = JoinSet::new();
    for sender in senders {
        loops.spawn(work_until(
            work.clone(),
            sender,
            began + length,
            pace.clone(),
        ));
    }
    let mut latency = histogram()?;
    while let Some(done) = loops.join_next().await {
        latency.add(done??)?;
    }
    let took = began.elapsed();
    let busy = bench_machine::own_processor_time()?.saturating_sub(busy);
    Ok(Figures {
        rate: count(&latency) / took.as_secs_f64(),
        latency,
        generator: busy.as_secs_f64() / took.as_secs_f64() / bench_machine::cores()?,
    })
}

/// The schedule of the requests of all connections.
#[derive(Debug)]
struct Pace {
    began: Instant,
    rate: u32,
    sent: AtomicU32,
}

impl Pace {
    fn new(began: Instant, rate: u32) -> Self {
        let sent = AtomicU32::default();
        Self { began, rate, sent }
    }

    /// The time at which the next request is due.
    fn next(&self) -> Instant {
        let sent = self.sent.fetch_add(1, Ordering::Relaxed);
        self.began + Duration::from_secs(1) / self.rate * sent
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52 answers")]
fn count(latency: &Histogram<u64>) -> f64 {
    latency.len() as f64
}

async fn connect(work: &Work) -> Result<SendRequest<Body>> {
    let stream = TcpStream::connect(work.address()).await?;
    stream.set_nodelay(true)?;
    let (sender, connection) = handshake(TokioIo::new(stream)).await?;
    // The task ends when the sender is dropped. A broken connection fails the current request.
    tokio::spawn(connection);
    Ok(sender)
}

async fn work_until(
    work: Work,
    mut sender: SendRequest<Body>,
    end: Instant,
    pace: Option<Arc<Pace>>,
) -> Result<Histogram<u64>> {
    let mut latency = histogram()?;
    while Instant::now() < end {
        if let Some(pace) = &pace {
            tokio::time::sleep_until(pace.next().into()).await;
        }
        let Some(request) = work.request()? else {
            break;
        };
        let began = Instant::now();
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        latency.record(u64::try_from(began.elapsed().as_nanos())?)?;
        ensure!(
            work.accepts(status.as_u16(), &body),
            "{} answered {status} {}",
            work.name(),
            String::from_utf8_lossy(&body)
        );
    }
    Ok(latency)
}
