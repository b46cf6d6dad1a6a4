//! A stand-in server. The test scripts its answers, and it records the calls that it receives.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard};

use event_streams::EventStreams;
use eventstore_protocol::gossip::gossip_server::{Gossip, GossipServer};
use eventstore_protocol::gossip::member_info::VNodeState;
use eventstore_protocol::gossip::{ClusterInfo, EndPoint, MemberInfo};
use eventstore_protocol::shared::{AllStreamPosition, Empty};
use eventstore_protocol::streams::batch_append_resp::success::{
    CurrentRevisionOption, PositionOption,
};
use eventstore_protocol::streams::batch_append_resp::{Result as Outcome, Success};
use eventstore_protocol::streams::read_req::options::CountOption;
use eventstore_protocol::streams::streams_server::{Streams, StreamsServer};
use eventstore_protocol::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp,
};
use futures::stream::{self, Stream, StreamExt};
use tokio::net::TcpListener;
use tonic::metadata::MetadataMap;
use tonic::transport::Server;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status, Streaming};

use crate::support::connect_to;

/// The answers of a stand-in. By default it is a healthy single node without events.
pub(crate) trait Script: Send + Sync + 'static {
    fn read(&self, _: &ReadReq) -> Result<Vec<ReadResp>, Status> {
        Ok(Vec::new())
    }

    /// Returns any number of answers to one append of the batch session.
    fn append(&self, item: BatchAppendReq) -> Vec<BatchAppendResp> {
        vec![answer(item, stored())]
    }

    fn tombstone(&self) -> Result<TombstoneResp, Status> {
        Ok(TombstoneResp::default())
    }

    fn members(&self) -> Vec<MemberInfo> {
        Vec::new()
    }
}

pub(crate) fn answer(item: BatchAppendReq, outcome: Outcome) -> BatchAppendResp {
    BatchAppendResp {
        correlation_id: item.correlation_id,
        result: Some(outcome),
        ..BatchAppendResp::default()
    }
}

pub(crate) fn stored() -> Outcome {
    Outcome::Success(Success {
        current_revision_option: Some(CurrentRevisionOption::CurrentRevision(0)),
        position_option: Some(PositionOption::Position(AllStreamPosition {
            commit_position: 64,
            prepare_position: 64,
        })),
    })
}

pub(crate) fn member(address: SocketAddr, state: VNodeState) -> MemberInfo {
    MemberInfo {
        state: state.into(),
        is_alive: true,
        http_end_point: Some(EndPoint {
            address: address.ip().to_string(),
            port: address.port().into(),
        }),
        ..MemberInfo::default()
    }
}

/// The error with which a follower refuses a call.
pub(crate) fn not_leader(leader: SocketAddr) -> Status {
    let mut status = Status::not_found("Leader info available");
    let (host, port) = (leader.ip().to_string(), leader.port().to_string());
    for (name, value) in [
        ("exception", "not-leader"),
        ("leader-endpoint-host", &host),
        ("leader-endpoint-port", &port),
    ] {
        status.metadata_mut().insert(name, value.parse().unwrap());
    }
    status
}

/// The received calls, in order.
#[derive(Debug, Default)]
pub(crate) struct Received {
    /// The method and the headers of each call.
    pub(crate) calls: Vec<(&'static str, MetadataMap)>,
    /// The appends of the batch sessions.
    pub(crate) items: Vec<BatchAppendReq>,
}

pub(crate) struct StandIn {
    address: SocketAddr,
    received: Arc<Mutex<Received>>,
}

impl StandIn {
    pub(crate) async fn start(script: impl Script) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let received = Arc::<Mutex<Received>>::default();
        let node = Node {
            script: Arc::new(script),
            received: Arc::clone(&received),
        };
        let server = Server::builder()
            .add_service(StreamsServer::new(node.clone()))
            .add_service(GossipServer::new(node))
            .serve_with_incoming(TcpIncoming::from(listener));
        tokio::spawn(server);
        Self { address, received }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connect(&self) -> EventStreams {
        connect_to(self.address)
    }

    pub(crate) fn received(&self) -> MutexGuard<'_, Received> {
        self.received.lock().unwrap()
    }

    pub(crate) fn count(&self, method: &str) -> usize {
        let received = self.received();
        received
            .calls
            .iter()
            .filter(|(name, _)| *name == method)
            .count()
    }

    /// A header of the last call of the method.
    pub(crate) fn header(&self, method: &str, header: &str) -> Option<String> {
        let received = self.received();
        let mut calls = received.calls.iter().rev();
        let (_, headers) = calls.find(|(name, _)| *name == method).unwrap();
        Some(headers.get(header)?.to_str().unwrap().to_owned())
    }
}

#[derive(Clone)]
struct Node {
    script: Arc<dyn Script>,
    received: Arc<Mutex<Received>>,
}

impl Node {
    fn record<T>(&self, method: &'static str, request: &Request<T>) {
        let headers = request.metadata().clone();
        self.received.lock().unwrap().calls.push((method, headers));
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl Gossip for Node {
    async fn read(&self, request: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        self.record("gossip", &request);
        let members = self.script.members();
        Ok(Response::new(ClusterInfo { members }))
    }
}

#[tonic::async_trait]
impl Streams for Node {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let options = request.get_ref().options.as_ref().unwrap();
        let is_subscription = matches!(options.count_option, Some(CountOption::Subscription(_)));
        self.record(if is_subscription { "subscribe" } else { "read" }, &request);
        let messages = stream::iter(self.script.read(request.get_ref())?.into_iter().map(Ok));
        Ok(Response::new(if is_subscription {
            messages.chain(stream::pending()).boxed()
        } else {
            messages.boxed()
        }))
    }

    /// Keeps the session open after the client has closed its side, like the real server.
    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        self.record("session", &request);
        let node = self.clone();
        let answers = request.into_inner().flat_map(move |item| {
            let answers = item.map(|item| {
                node.received.lock().unwrap().items.push(item.clone());
                node.script.append(item)
            });
            stream::iter(match answers {
                Ok(answers) => answers.into_iter().map(Ok).collect(),
                Err(status) => vec![Err(status)],
            })
        });
        Ok(Response::new(answers.chain(stream::pending()).boxed()))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        self.record("append", &request);
        Err(Status::unimplemented(""))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        self.record("delete", &request);
        Ok(Response::new(DeleteResp::default()))
    }

    async fn tombstone(
        &self,
        request: Request<TombstoneReq>,
    ) -> Result<Response<TombstoneResp>, Status> {
        self.record("tombstone", &request);
        self.script.tombstone().map(Response::new)
    }
}
