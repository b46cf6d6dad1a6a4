//! Counters and gauges in the format of Prometheus. They have the names of the real server where it has the same
//! figure.
//!
//! No figure contains the name of a stream, a user, or an address.

use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// The media type of [`MetricsPage`].
pub(crate) const MEDIA_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The figures of one server.
#[derive(Debug, Default)]
pub(crate) struct Metrics {
    written: Traffic,
    read: Traffic,
    calls: AtomicU64,
    refused_calls: AtomicU64,
    connections: AtomicU64,
    subscriptions: AtomicU64,
    open_calls: AtomicU64,
    full_connections: AtomicU64,
    refused_subscriptions: AtomicU64,
    group_size: Histogram<SIZES>,
    flush_micros: Histogram<MICROS>,
}

#[derive(Debug, Default)]
struct Traffic {
    events: AtomicU64,
    bytes: AtomicU64,
}

const SIZES: usize = 11;
const SIZE_BOUNDS: [u64; SIZES] = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024];
const MICROS: usize = 10;
const MICRO_BOUNDS: [u64; MICROS] = [
    100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000, 1_000_000,
];
const MICROS_PER_SECOND: f64 = 1_000_000.0;

impl Metrics {
    pub(crate) fn wrote(&self, events: usize, bytes: usize) {
        self.written.add(events, bytes);
    }

    pub(crate) fn read(&self, bytes: usize) {
        self.read.add(1, bytes);
    }

    pub(crate) fn call_received(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    pub(crate) fn call_refused(&self) {
        self.refused_calls.fetch_add(1, Relaxed);
    }

    /// Counts a transaction with this many changes, which took this long to be on disk.
    pub(crate) fn flushed(&self, changes: usize, took: Duration) {
        self.group_size.observe(&SIZE_BOUNDS, to_u64(changes));
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.flush_micros.observe(&MICRO_BOUNDS, micros);
    }

    /// Counts a connection until the guard is dropped.
    pub(crate) fn connected(self: Arc<Self>) -> GaugeGuard {
        GaugeGuard::count(self, |metrics| &metrics.connections)
    }

    /// Counts a subscription until the guard is dropped.
    pub(crate) fn subscribed(self: Arc<Self>) -> GaugeGuard {
        GaugeGuard::count(self, |metrics| &metrics.subscriptions)
    }

    /// Counts a call until the guard is dropped.
    pub(crate) fn call_opened(self: Arc<Self>) -> GaugeGuard {
        GaugeGuard::count(self, |metrics| &metrics.open_calls)
    }

    /// Counts a connection that has reached its limit of calls, or has left it.
    pub(crate) fn connection_is_full(&self, is_full: bool) {
        if is_full {
            self.full_connections.fetch_add(1, Relaxed);
        } else {
            self.full_connections.fetch_sub(1, Relaxed);
        }
    }

    pub(crate) fn refused_subscription(&self) {
        self.refused_subscriptions.fetch_add(1, Relaxed);
    }

    pub(crate) fn write_to(&self, page: &mut MetricsPage) {
        let (read, written) = (&self.read, &self.written);
        page.family(
            "eventstore_io_events",
            "counter",
            "Events read and written.",
        )
        .sample("{activity=\"read\"}", read.events.load(Relaxed))
        .sample("{activity=\"written\"}", written.events.load(Relaxed));
        page.family(
            "eventstore_io_bytes",
            "counter",
            "Bytes of events read and written.",
        )
        .sample("{activity=\"read\"}", read.bytes.load(Relaxed))
        .sample("{activity=\"written\"}", written.bytes.load(Relaxed));
        page.family(
            "eventstore_incoming_grpc_calls",
            "counter",
            "Calls and HTTP requests.",
        )
        .sample("{kind=\"total\"}", self.calls.load(Relaxed))
        .sample("{kind=\"refused\"}", self.refused_calls.load(Relaxed));
        page.family(
            "eventstore_kestrel_connections",
            "gauge",
            "Connections that are open.",
        )
        .sample("", self.connections.load(Relaxed));
        page.family(
            "eventstore_subscriptions",
            "gauge",
            "Catch-up subscriptions that are open.",
        )
        .sample("", self.subscriptions.load(Relaxed));
        self.write_limits_to(page);
        page.family(
            "eventstore_writer_group_size",
            "histogram",
            "Changes that shared one flush.",
        );
        self.group_size.write_to(page, &SIZE_BOUNDS, 1.0);
        page.family(
            "eventstore_writer_flush_duration_seconds",
            "histogram",
            "How long a transaction took to be on disk.",
        );
        self.flush_micros
            .write_to(page, &MICRO_BOUNDS, MICROS_PER_SECOND);
    }

    /// Writes the figures about limits of connections.
    fn write_limits_to(&self, page: &mut MetricsPage) {
        page.family(
            "eventstore_current_incoming_grpc_calls",
            "gauge",
            "Calls and HTTP requests that are open.",
        )
        .sample("", self.open_calls.load(Relaxed));
        page.family(
            "eventstore_full_connections",
            "gauge",
            "Connections at their limit of calls: their clients let further calls wait.",
        )
        .sample("", self.full_connections.load(Relaxed));
        page.family(
            "eventstore_refused_subscriptions",
            "counter",
            "Subscriptions and sessions refused because their connection is at its limit.",
        )
        .sample("", self.refused_subscriptions.load(Relaxed));
    }
}

impl Traffic {
    fn add(&self, events: usize, bytes: usize) {
        self.events.fetch_add(to_u64(events), Relaxed);
        self.bytes.fetch_add(to_u64(bytes), Relaxed);
    }
}

/// Counts something in a gauge until it is dropped.
#[derive(Debug)]
pub(crate) struct GaugeGuard {
    metrics: Arc<Metrics>,
    gauge: fn(&Metrics) -> &AtomicU64,
}

impl GaugeGuard {
    fn count(metrics: Arc<Metrics>, gauge: fn(&Metrics) -> &AtomicU64) -> Self {
        gauge(&metrics).fetch_add(1, Relaxed);
        Self { metrics, gauge }
    }
}

impl Drop for GaugeGuard {
    fn drop(&mut self) {
        (self.gauge)(&self.metrics).fetch_sub(1, Relaxed);
    }
}

/// A histogram: counts of values up to each bound, and beyond the last one.
#[derive(Debug)]
struct Histogram<const N: usize> {
    counts: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

impl<const N: usize> Default for Histogram<N> {
    fn default() -> Self {
        Self {
            counts: [const { AtomicU64::new(0) }; N],
            beyond: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }
}

impl<const N: usize> Histogram<N> {
    fn observe(&self, bounds: &[u64; N], value: u64) {
        let place = bounds.iter().position(|bound| value <= *bound);
        let count = place.map_or(&self.beyond, |place| &self.counts[place]);
        count.fetch_add(1, Relaxed);
        self.sum.fetch_add(value, Relaxed);
    }

    /// Writes cumulative buckets, as Prometheus requires.
    fn write_to(&self, page: &mut MetricsPage, bounds: &[u64; N], scale: f64) {
        let mut total = 0;
        for (bound, count) in bounds.iter().zip(&self.counts) {
            total += count.load(Relaxed);
            let label = format!("_bucket{{le=\"{}\"}}", scaled(*bound, scale));
            page.sample(&label, total);
        }
        total += self.beyond.load(Relaxed);
        page.sample("_bucket{le=\"+Inf\"}", total)
            .sample("_sum", scaled(self.sum.load(Relaxed), scale))
            .sample("_count", total);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a measurement needs no more")]
fn scaled(value: u64, scale: f64) -> f64 {
    value as f64 / scale
}

pub(crate) fn to_u64(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

/// Figures in the text format of Prometheus.
#[derive(Debug, Default)]
pub(crate) struct MetricsPage {
    text: String,
    family: &'static str,
}

impl MetricsPage {
    /// Begins the samples of one metric.
    pub(crate) fn family(&mut self, name: &'static str, kind: &str, help: &str) -> &mut Self {
        self.family = name;
        self.line(format_args!("# HELP {name} {help}"));
        self.line(format_args!("# TYPE {name} {kind}"));
        self
    }

    /// Writes one value. `suffix` follows the name, with labels if there are any.
    pub(crate) fn sample(&mut self, suffix: &str, value: impl Display) -> &mut Self {
        let name = self.family;
        self.line(format_args!("{name}{suffix} {value}"));
        self
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        writeln!(self.text, "{line}").unwrap_or_default();
    }

    pub(crate) fn into_text(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(metrics: &Metrics) -> String {
        let mut page = MetricsPage::default();
        metrics.write_to(&mut page);
        page.into_text()
    }

    #[test]
    fn figures_are_in_the_format_of_prometheus() {
        let metrics = Arc::new(Metrics::default());
        metrics.wrote(3, 700);
        metrics.flushed(3, Duration::from_micros(300));
        metrics.flushed(2_000, Duration::from_secs(2));
        let subscribed = Arc::clone(&metrics).subscribed();
        let text = page(&metrics);
        for line in [
            "# TYPE eventstore_io_events counter",
            "eventstore_io_events{activity=\"written\"} 3",
            "eventstore_io_bytes{activity=\"written\"} 700",
            "eventstore_subscriptions 1",
            "eventstore_writer_group_size_bucket{le=\"2\"} 0",
            "eventstore_writer_group_size_bucket{le=\"4\"} 1",
            "eventstore_writer_group_size_bucket{le=\"+Inf\"} 2",
            "eventstore_writer_group_size_sum 2003",
            "eventstore_writer_flush_duration_seconds_bucket{le=\"0.00025\"} 0",
            "eventstore_writer_flush_duration_seconds_bucket{le=\"0.0005\"} 1",
            "eventstore_writer_flush_duration_seconds_sum 2.0003",
            "eventstore_writer_flush_duration_seconds_count 2",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        drop(subscribed);
        assert!(page(&metrics).contains("eventstore_subscriptions 0\n"));
    }
}
