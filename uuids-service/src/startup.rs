//! The composition root: the only place where clock, store, broker and routes meet.

use std::{net::SocketAddr, sync::Arc};

use event_streams::EventStreams;
use messaging::Broker;
use tokio_util::sync::CancellationToken;
use web::{Readiness, Server};

use crate::{api, clock::Clock, config::Config, ids::Ids, lease::Lease, rpc};

/// A service that has its address and is on its way to its dependencies.
pub struct Application {
    server: Server,
    broker: Broker,
    ids: Arc<Ids>,
    lease: Lease,
}

impl Application {
    /// Takes the address; store and broker need not be there yet. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken, or a URL is none.
    pub fn build(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        // The store first: its client must be the one that installs the TLS provider.
        let streams = EventStreams::connect(&config.eventstore_url)?;
        let broker = Broker::connect(&config.amqp_url, env!("CARGO_PKG_NAME"))?;
        let ids = Arc::new(Ids::new(Arc::clone(&clock)));
        Ok(Self {
            server: Server::bind(config.bind)?,
            broker,
            lease: Lease::new(streams, Arc::clone(&ids), clock),
            ids,
        })
    }

    /// The address taken, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves until `shutdown`, then lets requests in flight end.
    ///
    /// # Errors
    /// When the operating system takes the listener away.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let readiness = readiness(&self.ids, &self.broker);
        let routes = api::routes(Arc::clone(&self.ids));
        let serve_http = async {
            let served = self.server.run(readiness, routes, shutdown.clone()).await;
            shutdown.cancel();
            served
        };
        let ids = &self.ids;
        let reply = |request: Vec<u8>| async move { rpc::reply(ids, &request).await };
        let serve_rpc = messaging::serve_rpc(self.broker, rpc::QUEUE, reply, shutdown.clone());
        let keep_leased = shutdown.run_until_cancelled(self.lease.keep());
        let (served, (), _) = tokio::join!(serve_http, serve_rpc, keep_leased);
        Ok(served?)
    }
}

/// With a window in hand the service gives ids without the store, so the lease says whether the store is missing. Ids are
/// given over HTTP without the broker.
fn readiness(ids: &Arc<Ids>, broker: &Broker) -> Readiness {
    let (ids, broker) = (Arc::clone(ids), broker.clone());
    Readiness::new()
        .needs("event store", move || {
            let window = ids.check();
            async move { window }
        })
        .uses("broker", move || {
            let broker = broker.clone();
            async move { broker.check().await.map_err(|error| error.to_string()) }
        })
}
