//! One connection, from its first call to its replacement.

use std::sync::Arc;

use eventstore_protocol::streams::streams_client::StreamsClient;
use tokio_util::sync::CancellationToken;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;

use crate::batch::BatchSession;
use crate::discovery;
use crate::event::Direction;
use crate::failure::Failure;
use crate::headers::Headers;
use crate::node::Node;
use crate::read;
use crate::settings::Settings;
use crate::transport;

/// Calls to one server.
pub(crate) type Client = StreamsClient<InterceptedService<Channel, Headers>>;

/// The largest message that a server sends: an event of 16 MiB, and what is around it.
const LARGEST_MESSAGE: usize = 17 * 1024 * 1024;

/// How often a node may name another one as the leader in one attempt to connect.
const MOVES: usize = 3;

/// A stream that nobody writes: reading it shows that the server answers.
const PROBE_STREAM: &str = "event-streams-probe";

#[derive(Debug)]
pub(crate) struct Generation {
    client: Client,
    session: BatchSession,
    broken: CancellationToken,
}

impl Generation {
    /// Connects to the node that the settings and the cluster name, and asks it one question.
    pub(crate) async fn connect(settings: &Arc<Settings>) -> Result<Self, Failure> {
        let mut node = discovery::choose(settings).await?;
        for _ in 0..MOVES {
            match Self::connect_to(&node, settings).await {
                Err(Failure::NotLeader(Some(leader))) => node = leader,
                outcome => return outcome,
            }
        }
        Err(Failure::Lost(
            "the cluster is changing its leader".to_owned(),
        ))
    }

    /// A refusal (of the credentials, for example) is no connection: every other call would meet it too.
    async fn connect_to(node: &Node, settings: &Settings) -> Result<Self, Failure> {
        let channel = transport::connect(node, settings).await?;
        let client = StreamsClient::with_interceptor(channel, settings.headers.clone())
            .max_decoding_message_size(LARGEST_MESSAGE);
        probe(client.clone()).await?;
        let broken = CancellationToken::new();
        let session = BatchSession::open(client.clone(), broken.clone());
        Ok(Self {
            client,
            session,
            broken,
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

    /// The supervisor builds another connection if this one is no use any more.
    pub(crate) fn judge(&self, failure: &Failure) {
        if matches!(failure, Failure::Lost(_) | Failure::NotLeader(_)) {
            self.broken.cancel();
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Returns once a successor is needed.
    pub(crate) async fn broken(&self) {
        self.broken.cancelled().await;
    }
}

async fn probe(client: Client) -> Result<(), Failure> {
    let request = read::of_stream(PROBE_STREAM, Direction::BackwardFromEnd, 1);
    match read::events(client, request).await {
        Ok(_) | Err(Failure::StreamDeleted) => Ok(()),
        Err(failure) => Err(failure),
    }
}
