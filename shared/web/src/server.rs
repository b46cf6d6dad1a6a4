//! Binding, serving, and a shutdown that finishes the requests in flight.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    time::Duration,
};

use access_tokens::Verifier;
use actix_web::{
    App, HttpServer,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use anyhow::Context as _;
use socket2::SockRef;
use tokio_util::sync::CancellationToken;

use crate::{
    Readiness,
    access::Gate,
    connection,
    extract::BodyWithin,
    observe::observe,
    readiness::{healthz, readyz},
};

/// How many connections may wait until they are accepted. The system may allow fewer (`net.core.somaxconn`). A connection beyond
/// that is made only after a second, when the client's system tries again.
const BACKLOG: i32 = 4_096;

/// How long a connection may be idle. This is longer than the pools of common clients keep one, so that the client closes
/// the connection and not the server.
const KEEP_ALIVE: Duration = Duration::from_mins(2);

/// How long the head of a request may take to arrive.
const HEAD_WITHIN: Duration = Duration::from_secs(5);

/// How long a client may leave what it was sent unread, or unacknowledged. Then its connection ends.
const READ_WITHIN: Duration = Duration::from_secs(30);

/// How long requests in flight may take to finish after the shutdown begins, in seconds.
const GRACE_SECONDS: u64 = 10;

/// A server that has bound its address and does not serve yet.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    head_within: Duration,
    body_within: BodyWithin,
    gate: Gate,
}

impl Server {
    /// Binds the address; port 0 takes a free port. The process may then open as many files as the system allows, because
    /// the usual limit is 1,024, and slow connections alone could use that up.
    ///
    /// # Errors
    /// If the address is in use or not local; the error names it.
    pub fn bind(address: SocketAddr) -> anyhow::Result<Self> {
        let listener =
            TcpListener::bind(address).with_context(|| format!("cannot listen on {address}"))?;
        let address = listener.local_addr()?;
        // The standard library lets 128 connections wait. Listening again changes the number.
        SockRef::from(&listener).listen(BACKLOG)?;
        end_unread(&listener, READ_WITHIN)?;
        if let Err(error) = rlimit::increase_nofile_limit(u64::MAX) {
            tracing::warn!(%error, "the limit of open files stays as it is");
        }
        Ok(Self {
            listener,
            address,
            head_within: HEAD_WITHIN,
            body_within: BodyWithin::default(),
            gate: Gate::default(),
        })
    }

    /// Sets how long the head of a request may take to arrive; the default is 5 s.
    #[must_use]
    pub fn head_within(self, bound: Duration) -> Self {
        Self {
            head_within: bound,
            ..self
        }
    }

    /// Sets how long the whole body of a request may take to arrive; the default is 10 s.
    #[must_use]
    pub fn body_within(self, bound: Duration) -> Self {
        Self {
            body_within: BodyWithin(bound),
            ..self
        }
    }

    /// Sets how long a client may leave what it was sent unread, or unacknowledged; the default is 30 s.
    ///
    /// # Errors
    /// If the system refuses it.
    pub fn read_within(self, bound: Duration) -> io::Result<Self> {
        end_unread(&self.listener, bound)?;
        Ok(self)
    }

    /// Lets only callers with valid tokens use [`secured`](crate::secured) routes. `None`, the default, lets every caller in.
    #[must_use]
    pub fn admitting(self, verifier: Option<Verifier>) -> Self {
        Self {
            gate: Gate(verifier),
            ..self
        }
    }

    /// The bound address, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves `routes`, `/_healthz` and `/_readyz` until `shutdown`, then finishes the requests in flight.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn run(
        self,
        readiness: Readiness,
        routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
        shutdown: CancellationToken,
    ) -> io::Result<()> {
        let readiness = Data::new(readiness);
        let gate = Data::new(self.gate);
        let app = move || {
            App::new()
                .app_data(readiness.clone())
                .app_data(gate.clone())
                .app_data(self.body_within)
                .wrap(from_fn(observe))
                .service(web::resource("/_healthz").route(web::get().to(healthz)))
                .service(web::resource("/_readyz").route(web::get().to(readyz)))
                .configure(routes.clone())
        };
        let server = HttpServer::new(app)
            .keep_alive(KEEP_ALIVE)
            .client_request_timeout(self.head_within)
            .tcp_nodelay(true)
            .on_connect(connection::opened)
            .shutdown_timeout(GRACE_SECONDS)
            .shutdown_signal(shutdown.cancelled_owned())
            .listen(self.listener)?;
        tracing::info!(address = %self.address, "listening");
        server.run().await
    }
}

/// The connections of this listener end when what they were sent stays unread for so long (RFC 5482). The framework has no such
/// bound. Other systems than Linux keep such a connection.
fn end_unread(listener: &TcpListener, bound: Duration) -> io::Result<()> {
    #[cfg(target_os = "linux")]
    SockRef::from(listener).set_tcp_user_timeout(Some(bound))?;
    let _ = (listener, bound);
    Ok(())
}
