//! A supervised client of `EventStoreDB`: idempotent appends, bounded reads, resumable subscriptions.
//!
//! Calls go over clients generated from the protocol's `.proto` files, on connections with `TCP_NODELAY`; the vendor's
//! `eventstore` parses the connection string. What a caller need not know:
//!
//! - a connection that fails is built anew in the background, with backoff and jitter, for ever; a call to a server that is known to be down is answered at once ([`EventStreams::connect`]);
//! - every call is bounded in time and in number, and an append whose outcome is unknown is repeated with the same event ids ([`EventStreams::append`]);
//! - appends share one session, many in flight, and a refusal fails only itself;
//! - a success that wrote nothing is an error ([`AppendError::NotWritten`]);
//! - a subscription resumes after the last event it delivered, and neither loses nor repeats one ([`Subscription::next`]);
//! - a position beyond every log is never delivered.
//!
//! It knows no event of any service.

mod append;
mod batch;
mod call;
mod connection;
mod discovery;
mod error;
mod event;
mod failure;
mod generation;
mod headers;
mod node;
mod read;
mod remove;
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

use crate::batch::APPENDS;
use crate::call::{ATTEMPT_WITHIN, CALLS};
use crate::connection::Connection;

/// A connection to an event store that comes back by itself. Cheap to clone; the last clone (and the last
/// [`Subscription`]) to be dropped closes it.
#[derive(Clone, Debug)]
pub struct EventStreams {
    connection: Connection,
    permits: Arc<Permits>,
    attempt_within: Duration,
}

/// How much may be in flight at once.
#[derive(Debug)]
struct Permits {
    appends: Semaphore,
    calls: Semaphore,
}

impl EventStreams {
    /// Parses the connection string (`esdb://host:port?tls=false`) and begins to connect in the background; returns
    /// before there is a connection. Calls wait for the first attempt, up to their deadline.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`] if the connection string is wrong.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        let settings = Arc::new(settings::parse(url)?);
        Ok(Self {
            attempt_within: settings.deadline.unwrap_or(ATTEMPT_WITHIN),
            connection: Connection::supervise(settings),
            permits: Arc::new(Permits {
                appends: Semaphore::new(APPENDS),
                calls: Semaphore::new(CALLS),
            }),
        })
    }

    /// The server, too, gives up after the time of one attempt.
    fn timed<T>(&self, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.set_timeout(self.attempt_within);
        request
    }
}
