//! A running server: storage and port, from start to shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::Config;
use crate::storage::Storage;
use crate::{connection, grpc};

/// How often a quiet connection is asked whether it is alive, and how long it has to answer.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long open calls may take to end when the server stops.
const GRACE: Duration = Duration::from_secs(3);
/// How many calls one connection may have open.
const MOST_CALLS: u32 = 512;
/// How much a client may send ahead, per call and per connection.
const CALL_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// A server that is listening. Dropped, it stops by itself; [`Server::shutdown`] also waits for that.
pub struct Server {
    address: SocketAddr,
    storage: Arc<Storage>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    shutdown: CancellationToken,
    _stops_when_dropped: DropGuard,
}

impl Server {
    /// Opens the database and listens.
    ///
    /// # Errors
    /// If another server uses the folder, the folder or the port cannot be had, or the database is damaged.
    pub async fn start(config: Config) -> Result<Self> {
        let listener = TcpListener::bind(config.address).await;
        let listener = listener.with_context(|| format!("listening on {}", config.address))?;
        let address = listener.local_addr()?;
        if config.unsafe_disable_flush_to_disk {
            tracing::warn!("answers do not wait for the disk: a power cut loses events");
        }
        let storage = tokio::task::spawn_blocking(move || Storage::open(&config)).await??;
        let storage = Arc::new(storage);
        let shutdown = CancellationToken::new();
        let services = grpc::routes(&storage, address, shutdown.clone());
        let stopping = shutdown.clone().cancelled_owned();
        let mut server = tonic::transport::Server::builder()
            .accept_http1(true)
            .http2_keepalive_interval(Some(KEEP_ALIVE))
            .http2_keepalive_timeout(Some(KEEP_ALIVE))
            .max_concurrent_streams(MOST_CALLS)
            .initial_stream_window_size(CALL_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW);
        let routed = server.add_routes(services);
        let serving = routed.serve_with_incoming_shutdown(connection::incoming(listener), stopping);
        Ok(Self {
            address,
            storage,
            serving: tokio::spawn(serving),
            _stops_when_dropped: shutdown.clone().drop_guard(),
            shutdown,
        })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection string for clients.
    #[must_use]
    pub fn url(&self) -> String {
        format!("esdb://{}?tls=false", self.address)
    }

    /// Stops: refuses new calls, ends subscriptions and sessions with UNAVAILABLE, waits a moment for other
    /// calls, and closes the database. After it the folder can be opened again.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        if tokio::time::timeout(GRACE, &mut self.serving)
            .await
            .is_err()
        {
            tracing::warn!("calls were still open after {GRACE:?}");
            self.serving.abort();
        }
        self.storage.close().await;
    }
}
