//! A stand-in for a cluster of three `EventStoreDB` nodes in front of one real store.
//!
//! A cluster acknowledges what a majority has stored, so one log behind all nodes is a fair model of it. The nodes differ
//! in what they answer: the leader passes calls on, and the others refuse the calls that require a leader. Every node can be
//! cut off or made silent through its own [`Proxy`].
//! Invariant: every node keeps its address, so clients need no new settings.

mod node;

use crate::proxy::Proxy;
use anyhow::Result;
use eventstore_protocol::gossip::gossip_server::GossipServer;
use eventstore_protocol::streams::streams_client::StreamsClient;
use eventstore_protocol::streams::streams_server::StreamsServer;
use node::StoreNode;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::server::TcpIncoming;
use tonic::transport::{Channel, Endpoint, Server};

/// The number of nodes.
pub const NODES: usize = 3;

/// The state of the cluster. A test changes it at any time.
#[derive(Debug, Clone, Default)]
pub struct View {
    /// The node that leads. `None` during an election.
    pub leader: Option<usize>,
    /// A node that still answers its clients but not the other nodes, so that it is no longer ready.
    pub isolated: Option<usize>,
    /// The leaders that gossip names, if they are not the real one.
    pub claimed: Option<Vec<usize>>,
    /// Whether a former leader passes on the appends of its open sessions, as the recorded server does. Otherwise the next
    /// append ends the session.
    pub passes_on: bool,
}

/// What the nodes share.
#[derive(Debug)]
struct Shared {
    view: watch::Sender<View>,
    addresses: Vec<SocketAddr>,
    store: StreamsClient<Channel>,
    /// How often each node received each kind of call, or refused one.
    counts: Mutex<BTreeMap<(usize, &'static str), usize>>,
    /// The open subscriptions of each node, by the name of the connection.
    subscribers: Mutex<BTreeMap<(usize, String), usize>>,
}

impl Shared {
    fn count(&self, node: usize, what: &'static str) {
        *locked(&self.counts).entry((node, what)).or_default() += 1;
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Three nodes; dropping the cluster ends them.
#[derive(Debug)]
pub struct StoreCluster {
    shared: Arc<Shared>,
    proxies: Vec<Proxy>,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
}

impl StoreCluster {
    /// Starts the nodes in front of the store at this address, which need not run yet. Node 0 leads.
    pub async fn start(store: SocketAddr) -> Result<Self> {
        let (mut listeners, mut proxies) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            let listener = TcpListener::bind("127.0.0.1:0").await?;
            let proxy = Proxy::closed(listener.local_addr()?).await?;
            proxy.open();
            listeners.push(listener);
            proxies.push(proxy);
        }
        let channel = Endpoint::from_shared(format!("http://{store}"))?.connect_lazy();
        let shared = Arc::new(Shared {
            view: watch::Sender::new(View {
                leader: Some(0),
                ..View::default()
            }),
            addresses: proxies.iter().map(Proxy::address).collect(),
            store: StreamsClient::new(channel),
            counts: Mutex::default(),
            subscribers: Mutex::default(),
        });
        let mut serving = JoinSet::new();
        for (number, listener) in listeners.into_iter().enumerate() {
            let node = StoreNode::new(number, Arc::clone(&shared));
            let server = Server::builder()
                .add_service(StreamsServer::new(node.clone()))
                .add_service(GossipServer::new(node));
            serving.spawn(
                server.serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true))),
            );
        }
        Ok(Self {
            shared,
            proxies,
            _serving: serving,
        })
    }

    /// The connection string with all nodes. The nodes know a client by this name.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        let addresses = self.shared.addresses.iter();
        let addresses: Vec<_> = addresses.map(SocketAddr::to_string).collect();
        let addresses = addresses.join(",");
        format!("esdb://{addresses}?tls=false&connectionName={name}")
    }

    /// The way to a node.
    #[must_use]
    pub fn proxy(&self, node: usize) -> &Proxy {
        &self.proxies[node]
    }

    /// Changes the state of the cluster.
    pub fn change(&self, change: impl FnOnce(&mut View)) {
        self.shared.view.send_modify(change);
    }

    /// How often a node received calls of this kind: `gossip`, `session`, `append`, `read`, `subscribe`, `remove`; or answered
    /// `not-leader` or `not-ready`.
    #[must_use]
    pub fn count(&self, node: usize, what: &'static str) -> usize {
        let counts = locked(&self.shared.counts);
        counts.get(&(node, what)).copied().unwrap_or_default()
    }

    /// The number of open subscriptions by node and name of the connection.
    #[must_use]
    pub fn subscribers(&self) -> BTreeMap<(usize, String), usize> {
        locked(&self.shared.subscribers).clone()
    }
}
