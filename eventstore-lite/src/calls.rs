//! The calls of one connection: how many are open, and how many of them are long.
//!
//! Invariant: long calls (subscriptions and sessions) never take all the calls of a connection, so that a short call
//! need not wait for a long one.

mod bounded;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};

use tonic::transport::server::TcpConnectInfo;

use crate::metrics::{GaugeGuard, Metrics};

pub(crate) use bounded::{Bounded, deadline};

/// The maximum number of open calls of a connection. HTTP/2 tells the client, which lets further calls wait.
pub(crate) const MOST_CALLS: u32 = 1024;
/// How many of them may be long.
pub(crate) const MOST_LONG_CALLS: u32 = 512;

/// The calls of one connection.
#[derive(Debug)]
pub(crate) struct Calls {
    open: AtomicU32,
    long: AtomicU32,
    /// Whether the log already says that the connection has reached a limit.
    is_logged: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The connection of a call.
#[derive(Clone, Debug)]
pub(crate) struct CallConnection {
    pub(crate) tcp: TcpConnectInfo,
    pub(crate) calls: Arc<Calls>,
}

/// Counts an open call until it is dropped.
#[derive(Debug)]
struct OpenCall {
    calls: Arc<Calls>,
    _counted: GaugeGuard,
}

/// Counts a subscription or a session until it is dropped.
#[derive(Debug)]
pub(crate) struct LongCall(Arc<Calls>);

impl Calls {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            open: AtomicU32::new(0),
            long: AtomicU32::new(0),
            is_logged: AtomicBool::new(false),
            metrics,
        }
    }

    fn open(self: Arc<Self>) -> OpenCall {
        if self.open.fetch_add(1, Relaxed) + 1 == MOST_CALLS {
            self.metrics.connection_is_full(true);
            self.log("calls", MOST_CALLS);
        }
        OpenCall {
            _counted: Arc::clone(&self.metrics).call_opened(),
            calls: self,
        }
    }

    /// Begins a long call, unless the connection has the maximum number.
    pub(crate) fn begin_long_call(self: &Arc<Self>) -> Option<LongCall> {
        let add = |long| (long < MOST_LONG_CALLS).then_some(long + 1);
        if self.long.fetch_update(Relaxed, Relaxed, add).is_ok() {
            return Some(LongCall(Arc::clone(self)));
        }
        self.metrics.refused_subscription();
        self.log("subscriptions and sessions", MOST_LONG_CALLS);
        None
    }

    fn log(&self, what: &str, most: u32) {
        if !self.is_logged.swap(true, Relaxed) {
            tracing::warn!("a connection has reached its limit of {most} {what}");
        }
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        if self.calls.open.fetch_sub(1, Relaxed) == MOST_CALLS {
            self.calls.metrics.connection_is_full(false);
        }
    }
}

impl Drop for LongCall {
    fn drop(&mut self) {
        self.0.long.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::MetricsPage;

    fn calls() -> (Arc<Metrics>, Arc<Calls>) {
        let metrics = Arc::new(Metrics::default());
        let calls = Arc::new(Calls::new(Arc::clone(&metrics)));
        (metrics, calls)
    }

    fn shows(metrics: &Metrics, line: &str) -> bool {
        let mut page = MetricsPage::default();
        metrics.write_to(&mut page);
        page.into_text().lines().any(|found| found == line)
    }

    #[test]
    fn a_connection_at_its_limit_of_calls_is_counted() {
        let (metrics, calls) = calls();
        let open = || Arc::clone(&calls).open();
        let mut all: Vec<_> = (1..MOST_CALLS).map(|_| open()).collect();
        assert!(shows(&metrics, "eventstore_full_connections 0"));
        all.push(open());
        assert!(shows(&metrics, "eventstore_full_connections 1"));
        all.pop();
        assert!(shows(&metrics, "eventstore_full_connections 0"));
        assert!(shows(
            &metrics,
            "eventstore_current_incoming_grpc_calls 1023"
        ));
    }

    #[test]
    fn a_long_call_that_ends_makes_room_for_another() {
        let (metrics, calls) = calls();
        let mut all: Vec<_> = (0..MOST_LONG_CALLS)
            .map(|_| calls.begin_long_call().unwrap())
            .collect();
        assert!(calls.begin_long_call().is_none());
        assert!(shows(&metrics, "eventstore_refused_subscriptions 1"));
        all.pop();
        assert!(calls.begin_long_call().is_some());
    }
}
