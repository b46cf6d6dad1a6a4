//! Connects to the addresses of a broker in turn. Each new connection goes to the address after the one that was tried last, so
//! that the loss of a node ends at the next node.
//!
//! Invariant: no error shows a password.

use crate::error::{InvalidUrl, Unavailable};
use deadpool::Runtime;
use deadpool::managed::{self, Manager as _, Metrics, PoolError, RecycleError, RecycleResult};
use deadpool_lapin::Manager;
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// How long it may take to connect, to all addresses together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// One connection, which many channels share. The pool makes the connection, checks it and replaces it, with one attempt at a
/// time however many callers wait for it.
pub(crate) type Pool = managed::Pool<Connector>;

/// Makes the connection of a [`Pool`].
pub(crate) struct Connector {
    addresses: Vec<Address>,
    /// The number of attempts, which says whose turn it is.
    attempts: AtomicUsize,
    /// How long one address may take.
    patience: Duration,
}

struct Address {
    /// Host, port and account, for errors.
    name: String,
    manager: Manager,
}

impl Connector {
    /// A pool of one connection to one of these addresses.
    pub(crate) fn pool(addresses: &[AMQPUri], name: &str) -> Result<Pool, InvalidUrl> {
        let count = u32::try_from(addresses.len()).unwrap_or(u32::MAX);
        let patience = CONNECT_TIMEOUT / count.max(1);
        let addresses = addresses.iter();
        let connector = Self {
            addresses: addresses
                .map(|address| Address::new(address.clone(), patience, name))
                .collect::<Result<_, _>>()?,
            attempts: AtomicUsize::default(),
            patience,
        };
        Pool::builder(connector)
            .max_size(1)
            .wait_timeout(Some(CONNECT_TIMEOUT))
            .create_timeout(Some(CONNECT_TIMEOUT))
            .recycle_timeout(Some(CONNECT_TIMEOUT))
            .runtime(Runtime::Tokio1)
            .build()
            .map_err(|error| InvalidUrl(error.to_string()))
    }

    /// The address whose turn it is.
    fn next(&self) -> &Address {
        let attempt = self.attempts.fetch_add(1, Ordering::Relaxed);
        &self.addresses[attempt % self.addresses.len()]
    }
}

impl Address {
    fn new(mut uri: AMQPUri, patience: Duration, name: &str) -> Result<Self, InvalidUrl> {
        let milliseconds = u64::try_from(patience.as_millis()).unwrap_or(u64::MAX);
        uri.query.connection_timeout.get_or_insert(milliseconds);
        let connection = name.to_owned();
        let properties =
            move || ConnectionProperties::default().with_connection_name(connection.clone().into());
        let runtime = lapin::runtime::default_runtime();
        let runtime = runtime.map_err(|error| InvalidUrl(error.to_string()))?;
        let (at, account) = (&uri.authority, &uri.authority.userinfo.username);
        Ok(Self {
            name: format!("{}:{} as {account:?}", at.host, at.port),
            manager: Manager::new(uri.to_string(), properties, runtime),
        })
    }

    async fn connect(&self, patience: Duration) -> Result<Connection, Unavailable> {
        let Self { name, manager } = self;
        match tokio::time::timeout(patience, manager.create()).await {
            Ok(Ok(connection)) => Ok(connection),
            Ok(Err(error)) => Err(Unavailable(format!("{name}: {error}"))),
            Err(_) => Err(Unavailable(format!(
                "{name}: no answer within {patience:?}"
            ))),
        }
    }
}

impl managed::Manager for Connector {
    type Type = Connection;
    type Error = Unavailable;

    async fn create(&self) -> Result<Connection, Unavailable> {
        let mut failures = Vec::new();
        for _ in &self.addresses {
            match self.next().connect(self.patience).await {
                Ok(connection) => return Ok(connection),
                Err(Unavailable(reason)) => failures.push(reason),
            }
        }
        Err(Unavailable(failures.join("; ")))
    }

    async fn recycle(
        &self,
        connection: &mut Connection,
        _: &Metrics,
    ) -> RecycleResult<Unavailable> {
        if connection.status().connected() {
            return Ok(());
        }
        Err(RecycleError::message("the connection was lost"))
    }
}

impl From<PoolError<Self>> for Unavailable {
    fn from(error: PoolError<Self>) -> Self {
        match error {
            PoolError::Backend(reason) => reason,
            PoolError::Timeout(_)
            | PoolError::Closed
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => Self(error.to_string()),
        }
    }
}
