//! The composition root: the only place where clock, store, broker and routes meet.

use std::{net::SocketAddr, sync::Arc};

use access_tokens::Verifier;
use event_streams::EventStreams;
use messaging::Broker;
use tokio_util::sync::CancellationToken;
use web::{Readiness, Server};

use crate::{
    api, clock::Clock, config::Config, ids::Ids, lease_keeper::LeaseKeeper, rpc,
    window_record::RecordFile, worker_numbers::WorkerNumbers,
};

/// A service that has bound its address and connects to its dependencies.
pub struct Application {
    server: Server,
    verifier: Option<Verifier>,
    broker: Broker,
    ids: Arc<Ids>,
    lease_keeper: LeaseKeeper,
}

impl Application {
    /// Binds the address; store and broker may still be down. Needs a tokio runtime.
    ///
    /// # Errors
    /// When the address is taken, a URL is malformed, or the record of windows cannot be read.
    pub fn build(config: &Config, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let record = RecordFile::open(&config.windows.data)?;
        record.read()?;
        let numbers = WorkerNumbers::new(EventStreams::connect(&config.windows.eventstore_url)?);
        let broker = Broker::connect(&config.amqp_url, env!("CARGO_PKG_NAME"))?;
        config.access.check(config.bind)?;
        let verifier = config.access.verifier()?;
        let ids = Arc::new(Ids::new(Arc::clone(&clock)));
        Ok(Self {
            server: Server::bind(config.bind)?.admitting(verifier.clone()),
            verifier,
            broker,
            lease_keeper: LeaseKeeper::new(numbers, record, Arc::clone(&ids), clock),
            ids,
        })
    }

    /// The bound address, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Serves until `shutdown`, then finishes the requests in flight.
    ///
    /// # Errors
    /// When the listener fails.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let mut readiness = readiness(&self.ids, &self.broker);
        if let Some(verifier) = self.verifier {
            readiness = readiness.needs("token keys", move || {
                let verifier = verifier.clone();
                async move { verifier.check().await }
            });
        }
        let routes = api::routes(Arc::clone(&self.ids));
        let serve_http = async {
            let served = self.server.run(readiness, routes, shutdown.clone()).await;
            shutdown.cancel();
            served
        };
        let ids = &self.ids;
        let reply = |request: Vec<u8>| async move { rpc::reply(ids, &request).await };
        let serve_rpc = messaging::serve_rpc(self.broker, rpc::QUEUE, reply, shutdown.clone());
        let keep_leased = shutdown.run_until_cancelled(self.lease_keeper.run());
        let (served, (), _) = tokio::join!(serve_http, serve_rpc, keep_leased);
        Ok(served?)
    }
}

/// With a current window the service issues ids without the store. The check of the event store therefore fails only when
/// no ids can be issued. Without the broker the service still issues ids over HTTP.
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
