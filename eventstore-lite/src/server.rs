//! A running server, from start to shutdown.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::service::Routes;

use crate::access::{Gate, GateState, guard};
use crate::calls::{Bounded, MOST_CALLS};
use crate::config::{Config, Security};
use crate::http::{self, AppState};
use crate::node::Node;
use crate::persistent::PersistentSubscriptions;
use crate::storage::Storage;
use crate::tls::Identity;
use crate::{connection, grpc, tls, web};

/// How often a quiet connection is pinged, and how long it has to answer.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(10);
/// How long open calls may continue when the server stops.
const GRACE: Duration = Duration::from_secs(3);
/// How many bytes a client may send ahead, per call and per connection.
const CALL_WINDOW: u32 = 1024 * 1024;
const CONNECTION_WINDOW: u32 = 4 * 1024 * 1024;

/// A running server. Dropping it stops it; [`Server::shutdown`] also waits for the end.
pub struct Server {
    address: SocketAddr,
    identity: Option<Identity>,
    storage: Arc<Storage>,
    subscriptions: Arc<PersistentSubscriptions>,
    serving: JoinHandle<Result<(), tonic::transport::Error>>,
    shutdown: CancellationToken,
    _stops_when_dropped: DropGuard,
}

impl Server {
    /// Opens the database and listens. With [`Config::system_projections`] it returns when the system streams link to
    /// all earlier events.
    ///
    /// # Errors
    /// If another server uses the folder, if the folder or the port is not available, if the database is damaged, or
    /// if the certificate or its key cannot be used.
    pub async fn start(config: Config) -> Result<Self> {
        let server = Self::serve(config).await?;
        server.storage.wait_for_links().await;
        Ok(server)
    }

    /// Opens the database and listens. System streams may still be brought up to date; until then, reads of them are
    /// answered UNAVAILABLE.
    pub(crate) async fn serve(config: Config) -> Result<Self> {
        let (gate, identity) = secure(&config.security)?;
        let listener = TcpListener::bind(config.address).await;
        let listener = listener.with_context(|| format!("listening on {}", config.address))?;
        let address = listener.local_addr()?;
        if config.unsafe_disable_flush_to_disk {
            tracing::warn!("answers do not wait for the disk, so a power cut loses events");
        }
        let (limits, advertised) = (config.limits, config.advertised.clone());
        let storage = tokio::task::spawn_blocking(move || Storage::open(&config)).await??;
        let storage = Arc::new(storage);
        let shutdown = CancellationToken::new();
        let subscriptions =
            PersistentSubscriptions::start(Arc::clone(&storage), shutdown.clone()).await?;
        let app = AppState {
            storage,
            subscriptions: Arc::new(subscriptions),
            node: Node::new(address, advertised),
            is_guarded: identity.is_some(),
        };
        let (storage, stop) = (Arc::clone(&app.storage), shutdown.clone());
        tokio::spawn(async move { storage.link_earlier_events(&stop).await });
        let metrics = Arc::clone(app.storage.metrics());
        let connections = connection::incoming(listener, limits.connections, metrics);
        let acceptor = identity.as_ref().map(Identity::current);
        let incoming = tls::incoming(connections, acceptor, limits.connections);
        let routes = routes(&app, gate, &shutdown);
        let stopping = shutdown.clone().cancelled_owned();
        let service = Bounded(routes.prepare());
        let serving = builder().serve_with_incoming_shutdown(service, incoming, stopping);
        Ok(Self {
            address,
            identity,
            storage: app.storage,
            subscriptions: app.subscriptions,
            serving: tokio::spawn(serving),
            _stops_when_dropped: shutdown.clone().drop_guard(),
            shutdown,
        })
    }

    /// The address that the server listens on.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A connection string for clients. With TLS, the name and password of a user must be added.
    #[must_use]
    pub fn url(&self) -> String {
        format!("esdb://{}?tls={}", self.address, self.identity.is_some())
    }

    /// With TLS, reads the certificate and key again for later handshakes. Open connections are not affected.
    ///
    /// # Errors
    /// If they cannot be used. Then the ones in use remain.
    pub fn reload_certificate(&self) -> Result<()> {
        self.identity.as_ref().map_or(Ok(()), Identity::reload)
    }

    /// Waits until a client has requested the server to stop. [`Server::shutdown`] then stops it.
    pub async fn stop_requested(&self) {
        self.shutdown.cancelled().await;
    }

    /// Stops the server: refuses new calls, ends subscriptions and sessions with UNAVAILABLE, waits a moment for
    /// other calls, and closes the database. After that the folder can be opened again.
    pub async fn shutdown(mut self) {
        self.shutdown.cancel();
        if tokio::time::timeout(GRACE, &mut self.serving)
            .await
            .is_err()
        {
            tracing::warn!("calls were still open after {GRACE:?}");
            self.serving.abort();
        }
        self.subscriptions.close().await;
        self.storage.close().await;
    }
}

fn secure(security: &Security) -> Result<(Gate, Option<Identity>)> {
    match security {
        Security::Insecure => {
            tracing::warn!(
                "no TLS and no passwords: everybody who can reach the port may do everything"
            );
            Ok((Gate::open(), None))
        }
        Security::Secure {
            certificate,
            certificate_key,
            users,
        } => {
            let identity = Identity::read(certificate, certificate_key)?;
            Ok((Gate::guarded(users.clone()), Some(identity)))
        }
    }
}

fn builder() -> tonic::transport::Server {
    tonic::transport::Server::builder()
        .accept_http1(true)
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .max_concurrent_streams(MOST_CALLS)
        .initial_stream_window_size(CALL_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
}

/// All routes of the port, behind the gate.
fn routes(app: &AppState, gate: Gate, shutdown: &CancellationToken) -> Routes {
    let calls = grpc::routes(app, shutdown.clone());
    let all = calls
        .merge(http::routes(app.clone()))
        .merge(web::routes(app.clone(), shutdown.clone()));
    let state = GateState {
        gate,
        metrics: Arc::clone(app.storage.metrics()),
        host: app.node.host.to_lowercase().into(),
    };
    all.layer(from_fn_with_state(state, guard)).into()
}
