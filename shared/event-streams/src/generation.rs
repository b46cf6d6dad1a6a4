//! A generation: one connection to one server, used until it breaks.

use std::sync::Arc;

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::batch::BatchSession;
use crate::client::{self, Client};
use crate::discovery;
use crate::event::Direction;
use crate::failure::Failure;
use crate::node::Node;
use crate::request;
use crate::settings::Settings;

/// The most nodes to try in one attempt to connect; each but the first is the leader that the one before named.
const NODES_TO_TRY: usize = 3;

/// An empty stream. A probe reads it to see whether the server answers.
const PROBE_STREAM: &str = "event-streams-probe";

#[derive(Debug)]
pub(crate) struct Generation {
    client: Client,
    session: BatchSession,
    broken: CancellationToken,
    /// Told when the server answered that it is busy or not ready.
    suspected: Notify,
}

impl Generation {
    /// Connects to the preferred node and probes it. Follows a node that names another one as the leader.
    pub(crate) async fn connect(settings: &Arc<Settings>) -> Result<Self, Failure> {
        let mut node = discovery::choose(settings).await?;
        for _ in 0..NODES_TO_TRY {
            match Self::connect_to(&node, settings).await {
                Err(Failure::NotLeader(Some(leader))) => node = leader,
                outcome => return outcome,
            }
        }
        Err(Failure::Lost("the cluster is electing a leader".to_owned()))
    }

    /// Fails if the server refuses the probe, for example because of the credentials, as it would refuse every other
    /// call.
    async fn connect_to(node: &Node, settings: &Settings) -> Result<Self, Failure> {
        let client = client::connect(node, settings).await?;
        probe(client.clone()).await?;
        let broken = CancellationToken::new();
        let session = BatchSession::open(client.clone(), broken.clone());
        Ok(Self {
            client,
            session,
            broken,
            suspected: Notify::new(),
        })
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    pub(crate) fn session(&self) -> &BatchSession {
        &self.session
    }

    pub(crate) async fn probe(&self) -> Result<(), Failure> {
        probe(self.client()).await
    }

    /// Marks this generation as broken if the failure shows that its connection is unusable. The supervisor replaces
    /// it. After an answer that the server is busy or not ready, the supervisor probes it.
    pub(crate) fn observe(&self, failure: &Failure) {
        match failure {
            Failure::Lost(_) | Failure::NotLeader(_) => self.broken.cancel(),
            Failure::Busy(_) => self.suspected.notify_one(),
            Failure::WrongRevision(_)
            | Failure::StreamDeleted
            | Failure::TooLarge
            | Failure::Refused(_) => {}
        }
    }

    /// Waits until the server answers that it is busy or not ready.
    pub(crate) async fn suspected(&self) {
        self.suspected.notified().await;
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Waits until this generation is broken.
    pub(crate) async fn broken(&self) {
        self.broken.cancelled().await;
    }
}

async fn probe(client: Client) -> Result<(), Failure> {
    let request = request::read_stream(PROBE_STREAM, Direction::BackwardFromEnd, 1);
    match client::read(client, request).await {
        Ok(_) | Err(Failure::StreamDeleted) => Ok(()),
        Err(failure) => Err(failure),
    }
}
