//! Binding, serving, and ending without breaking off an answer.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use actix_web::{
    App, HttpServer,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use anyhow::Context as _;
use tokio_util::sync::CancellationToken;

use crate::{
    Readiness, connection,
    extract::BodyWithin,
    observe::observe,
    readiness::{healthz, readyz},
};

/// How long a connection may be idle: longer than the pools of common clients keep one, so that they, not we, close it.
const KEEP_ALIVE: Duration = Duration::from_mins(2);

/// How long requests in flight may take to end after shutdown began, in seconds.
const GRACE_SECONDS: u64 = 10;

/// An address that is taken, not yet served.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    body_within: BodyWithin,
}

impl Server {
    /// Takes the address; port 0 takes a free one.
    ///
    /// # Errors
    /// When the address is in use or not ours; the error names it.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        Ok(Self {
            listener,
            address,
            body_within: BodyWithin::default(),
        })
    }

    /// How long the body of a request may take to come whole; 10 s if this is not called.
    #[must_use]
    pub fn body_within(self, bound: Duration) -> Self {
        Self {
            body_within: BodyWithin(bound),
            ..self
        }
    }

    /// The address taken, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes`, `/_healthz` and `/_readyz` until `shutdown`, then lets requests in flight end.
    ///
    /// # Errors
    /// When the operating system takes the listener away.
    pub async fn run(
        self,
        readiness: Readiness,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let readiness = Data::new(readiness);
        let app = move || {
            App::new()
                .app_data(readiness.clone())
                .app_data(self.body_within)
                .wrap(from_fn(observe))
                .service(web::resource("/_healthz").route(web::get().to(healthz)))
                .service(web::resource("/_readyz").route(web::get().to(readyz)))
                .configure(routes.clone())
        };
        let server = HttpServer::new(app)
            .keep_alive(KEEP_ALIVE)
            .tcp_nodelay(true)
            .on_connect(connection::opened)
            .shutdown_timeout(GRACE_SECONDS)
            .shutdown_signal(shutdown.cancelled_owned())
            .listen(self.listener)?;
        tracing::info!(address = %self.address, "listening");
        server.run().await
    }
}
