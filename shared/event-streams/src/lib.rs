//! A supervised client of `EventStoreDB`: idempotent appends, bounded reads, resumable subscriptions.
//!
//! The calls use clients that are generated from the protocol's `.proto` files, on connections with `TCP_NODELAY`. The
//! vendor's `eventstore` crate only parses the connection string. Invariants:
//!
//! - The supervisor replaces a failed connection in the background, with backoff and jitter, and never stops trying. A call to a server that is known to be down fails at once ([`EventStreams::connect`]).
//! - Every call has a deadline, and the number of calls in flight is bounded. An append whose outcome is unknown is repeated with the same event ids ([`EventStreams::append`]).
//! - All appends share one session with many appends in flight. The refusal of one append does not affect the others.
//! - A success that wrote nothing is reported as an error ([`AppendError::NotWritten`]).
//! - A subscription resumes after the last event it delivered. It neither loses nor repeats an event ([`Subscription::next`]).
//! - A position that no log can have is never delivered.
//!
//! The crate knows nothing about the events of any service.

mod append;
mod batch;
mod call;
mod client;
mod connection;
mod discovery;
mod error;
mod event;
mod failure;
mod generation;
mod headers;
mod metadata;
mod node;
mod read;
mod remove;
mod request;
mod settings;
mod subscription;
mod tls;
mod transport;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

pub use crate::error::{AppendError, ConnectError, ReadError, Unavailable};
pub use crate::event::{Appended, Direction, Expected, NewEvent, Position, RecordedEvent};
pub use crate::read::Page;
pub use crate::subscription::{Delivery, Subscription};

use crate::batch::APPENDS_IN_FLIGHT;
use crate::call::{ATTEMPT_TIMEOUT, CALLS_IN_FLIGHT};
use crate::connection::Connection;

/// A client of an event store that reconnects by itself. Clones are cheap and share one connection, which closes when
/// the last clone and the last [`Subscription`] are dropped.
#[derive(Clone, Debug)]
pub struct EventStreams {
    connection: Connection,
    permits: Arc<Permits>,
    attempt_timeout: Duration,
}

/// Bounds on what is in flight at once.
#[derive(Debug)]
struct Permits {
    appends: Semaphore,
    calls: Semaphore,
}

impl EventStreams {
    /// Parses the connection string (`esdb://host:port?tls=false`) and starts to connect in the background. Returns
    /// before the connection is made; calls wait for the first attempt, up to their deadline.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`] if the connection string is invalid.
    ///
    /// # Panics
    ///
    /// Panics outside a tokio runtime.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        let settings = Arc::new(settings::parse(url)?);
        Ok(Self {
            attempt_timeout: settings.deadline.unwrap_or(ATTEMPT_TIMEOUT),
            connection: Connection::supervise(settings),
            permits: Arc::new(Permits {
                appends: Semaphore::new(APPENDS_IN_FLIGHT),
                calls: Semaphore::new(CALLS_IN_FLIGHT),
            }),
        })
    }

    /// A request that the server also abandons when the attempt times out.
    fn with_timeout<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.attempt_timeout);
        request
    }
}
