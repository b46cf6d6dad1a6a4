//! A supervised client of `EventStoreDB`: idempotent appends, bounded reads, resumable subscriptions.
//!
//! It is the only crate that names the vendor's `eventstore`, and it hides what that client cannot survive by itself:
//!
//! - a connection that fails is built anew in the background, with backoff and jitter, for ever ([`EventStreams::connect`]);
//! - every call is bounded in time and in number, and an append whose outcome is unknown is repeated with the same event ids ([`EventStreams::append`]);
//! - a success that wrote nothing is an error ([`AppendError::NotWritten`]);
//! - a subscription resumes after the last event it delivered, and neither loses nor repeats one ([`Subscription::next`]).
//!
//! It knows no event of any service.

mod append;
mod call;
mod connection;
mod error;
mod event;
mod generation;
mod provider;
mod read;
mod remove;
mod runaway;
mod sessions;
mod settings;
mod subscription;

use std::sync::Arc;

use tokio::sync::Semaphore;

pub use crate::error::{AppendError, ConnectError, ReadError, Unavailable};
pub use crate::event::{Appended, Direction, Expected, NewEvent, Position, RecordedEvent};
pub use crate::read::Page;
pub use crate::subscription::{Delivery, Subscription};

use crate::call::CALLS;
use crate::connection::Connection;
use crate::sessions::Sessions;

/// A connection to an event store that comes back by itself. Cheap to clone; the last clone (and the last
/// [`Subscription`]) to be dropped closes it.
#[derive(Clone, Debug)]
pub struct EventStreams {
    connection: Connection,
    sessions: Arc<Sessions>,
    calls: Arc<Semaphore>,
}

impl EventStreams {
    /// Parses the connection string (`esdb://host:port?tls=false`) and begins to connect in the background; returns
    /// before there is a connection. Calls wait for one, up to their deadline.
    ///
    /// The first call in a process also lets the vendor's client install the process's TLS provider, so make it before
    /// anything else that speaks TLS.
    ///
    /// # Errors
    ///
    /// [`ConnectError::InvalidUrl`] if the connection string is wrong, [`ConnectError::TlsProvider`] if the program
    /// installed a TLS provider before.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    pub fn connect(url: &str) -> Result<Self, ConnectError> {
        let settings = settings::parse(url)?;
        provider::install()?;
        Ok(Self {
            connection: Connection::supervise(settings),
            sessions: Arc::new(Sessions::new()),
            calls: Arc::new(Semaphore::new(CALLS)),
        })
    }
}
