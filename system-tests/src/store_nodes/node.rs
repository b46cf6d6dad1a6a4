//! One node: what it answers to its clients.
//!
//! Invariant: an append is passed to the store only by the leader, or by a former leader in whose session it is.

use super::{NODES, Shared, locked};
use eventstore_protocol::google::rpc;
use eventstore_protocol::gossip::gossip_server::Gossip;
use eventstore_protocol::gossip::member_info::VNodeState;
use eventstore_protocol::gossip::{ClusterInfo, EndPoint, MemberInfo};
use eventstore_protocol::shared::Empty;
use eventstore_protocol::streams::batch_append_resp::Result as Outcome;
use eventstore_protocol::streams::read_req::options::CountOption;
use eventstore_protocol::streams::streams_client::StreamsClient;
use eventstore_protocol::streams::streams_server::Streams;
use eventstore_protocol::streams::{
    AppendReq, AppendResp, BatchAppendReq, BatchAppendResp, DeleteReq, DeleteResp, ReadReq,
    ReadResp, TombstoneReq, TombstoneResp,
};
use futures::StreamExt;
use futures::stream::{BoxStream, select};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataValue;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming, async_trait};

const NOT_READY: &str = "Server Is Not Ready";

/// The appends and the refusals of a session that wait to be sent.
const IN_FLIGHT: usize = 16;

type Answers<T> = BoxStream<'static, Result<T, Status>>;

/// What a node is at this moment.
#[derive(Debug, Clone, Copy)]
enum Role {
    Leader,
    /// Another node leads.
    Follower(SocketAddr),
    /// The node knows of no leader.
    NotReady,
}

#[derive(Debug, Clone)]
pub(super) struct StoreNode {
    number: usize,
    shared: Arc<Shared>,
}

impl StoreNode {
    pub(super) fn new(number: usize, shared: Arc<Shared>) -> Self {
        Self { number, shared }
    }

    fn role(&self) -> Role {
        let view = self.shared.view.borrow();
        match view.leader {
            _ if view.isolated == Some(self.number) => Role::NotReady,
            None => Role::NotReady,
            Some(leader) if leader == self.number => Role::Leader,
            Some(leader) => Role::Follower(self.shared.addresses[leader]),
        }
    }

    /// Counts the call, and refuses it as a node in this role does.
    fn admit<T>(&self, what: &'static str, request: &Request<T>) -> Result<(), Status> {
        self.shared.count(self.number, what);
        let required = request.metadata().get("requires-leader");
        match self.role() {
            Role::Follower(leader) if required.is_some_and(|required| required == "true") => {
                Err(self.not_leader(leader))
            }
            Role::NotReady => Err(self.not_ready()),
            Role::Leader | Role::Follower(_) => Ok(()),
        }
    }

    fn not_ready(&self) -> Status {
        self.shared.count(self.number, "not-ready");
        Status::unavailable(NOT_READY)
    }

    fn not_leader(&self, leader: SocketAddr) -> Status {
        self.shared.count(self.number, "not-leader");
        let mut status = Status::not_found("Leader info available");
        let trailers = status.metadata_mut();
        trailers.insert("exception", MetadataValue::from_static("not-leader"));
        if let Ok(host) = leader.ip().to_string().parse() {
            trailers.insert("leader-endpoint-host", host);
        }
        trailers.insert("leader-endpoint-port", leader.port().into());
        status
    }

    /// What the node answers to an append in an open session instead of passing it on.
    fn refusal(&self, item: &BatchAppendReq) -> Option<Result<BatchAppendResp, Status>> {
        let passes_on = self.shared.view.borrow().passes_on;
        match self.role() {
            Role::Leader => None,
            Role::Follower(_) if passes_on => None,
            Role::Follower(leader) => Some(Err(self.not_leader(leader))),
            Role::NotReady => {
                let message = self.not_ready().message().to_owned();
                let error = rpc::Status {
                    message,
                    ..rpc::Status::default()
                };
                Some(Ok(BatchAppendResp {
                    correlation_id: item.correlation_id.clone(),
                    result: Some(Outcome::Error(error)),
                    ..BatchAppendResp::default()
                }))
            }
        }
    }

    fn store(&self) -> StreamsClient<Channel> {
        self.shared.store.clone()
    }

    /// Passes on the appends of a session, or refuses them, until the session ends.
    async fn pass_on(
        self,
        mut items: Streaming<BatchAppendReq>,
        passed: mpsc::Sender<BatchAppendReq>,
        refused: mpsc::Sender<Result<BatchAppendResp, Status>>,
    ) {
        while let Ok(Some(item)) = items.message().await {
            let is_open = if let Some(refusal) = self.refusal(&item) {
                refused.send(refusal).await.is_ok()
            } else {
                self.shared.count(self.number, "append");
                passed.send(item).await.is_ok()
            };
            if !is_open {
                return;
            }
        }
    }

    /// The messages of a subscription, while the node hears of new events.
    fn subscription(
        &self,
        messages: Streaming<ReadResp>,
        open: OpenSubscription,
    ) -> Answers<ReadResp> {
        let node = self.clone();
        let messages = messages.then(move |message| {
            let _open = &open;
            let node = node.clone();
            async move {
                node.connected().await;
                message
            }
        });
        messages.boxed()
    }

    /// Waits until the node hears of new events.
    async fn connected(&self) {
        let mut view = self.shared.view.subscribe();
        // The view lives as long as this node.
        let _ = view
            .wait_for(|view| view.isolated != Some(self.number))
            .await;
    }
}

fn merged(
    answers: Streaming<BatchAppendResp>,
    refused: mpsc::Receiver<Result<BatchAppendResp, Status>>,
) -> Answers<BatchAppendResp> {
    select(answers, ReceiverStream::new(refused)).boxed()
}

/// Counts as an open subscription until it is dropped.
struct OpenSubscription {
    shared: Arc<Shared>,
    subscriber: (usize, String),
}

impl OpenSubscription {
    fn new(node: &StoreNode, name: String) -> Self {
        let (shared, subscriber) = (Arc::clone(&node.shared), (node.number, name));
        let mut subscribers = locked(&shared.subscribers);
        *subscribers.entry(subscriber.clone()).or_default() += 1;
        drop(subscribers);
        Self { shared, subscriber }
    }
}

impl Drop for OpenSubscription {
    fn drop(&mut self) {
        let mut subscribers = locked(&self.shared.subscribers);
        if let Some(count) = subscribers.get_mut(&self.subscriber) {
            *count -= 1;
        }
        subscribers.retain(|_, count| *count > 0);
    }
}

#[async_trait]
impl Gossip for StoreNode {
    async fn read(&self, _: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        self.shared.count(self.number, "gossip");
        let view = self.shared.view.borrow().clone();
        let is_isolated = view.isolated == Some(self.number);
        let leaders = match view.claimed {
            _ if is_isolated => Vec::new(),
            Some(claimed) => claimed,
            None => Vec::from_iter(view.leader),
        };
        let state = |number| match leaders.contains(&number) {
            true => VNodeState::Leader,
            false if leaders.is_empty() => VNodeState::Unknown,
            false => VNodeState::Follower,
        };
        let members = (0..NODES).map(|number| MemberInfo {
            state: state(number).into(),
            is_alive: !is_isolated || number == self.number,
            http_end_point: Some(EndPoint {
                address: self.shared.addresses[number].ip().to_string(),
                port: self.shared.addresses[number].port().into(),
            }),
            ..MemberInfo::default()
        });
        let members = members.collect();
        Ok(Response::new(ClusterInfo { members }))
    }
}

#[async_trait]
impl Streams for StoreNode {
    type ReadStream = Answers<ReadResp>;
    type BatchAppendStream = Answers<BatchAppendResp>;

    /// A subscription is never ended when the leader changes, like one of the real server.
    async fn read(&self, request: Request<ReadReq>) -> Result<Response<Self::ReadStream>, Status> {
        let options = request.get_ref().options.as_ref();
        let count = options.and_then(|options| options.count_option.as_ref());
        if !matches!(count, Some(CountOption::Subscription(_))) {
            self.admit("read", &request)?;
            let answers = self.store().read(request).await?;
            return Ok(answers.map(StreamExt::boxed));
        }
        self.admit("subscribe", &request)?;
        let name = request.metadata().get("connection-name");
        let name = name.and_then(|name| name.to_str().ok()).unwrap_or_default();
        let open = OpenSubscription::new(self, name.to_owned());
        let messages = self.store().read(request).await?.into_inner();
        Ok(Response::new(self.subscription(messages, open)))
    }

    async fn batch_append(
        &self,
        request: Request<Streaming<BatchAppendReq>>,
    ) -> Result<Response<Self::BatchAppendStream>, Status> {
        self.admit("session", &request)?;
        let (passing, passed) = mpsc::channel(IN_FLIGHT);
        let (refusing, refused) = mpsc::channel(IN_FLIGHT);
        let node = self.clone();
        tokio::spawn(node.pass_on(request.into_inner(), passing, refusing));
        let mut store = self.store();
        let session = store.batch_append(ReceiverStream::new(passed));
        let answers = session.await?.into_inner();
        Ok(Response::new(merged(answers, refused)))
    }

    async fn append(
        &self,
        request: Request<Streaming<AppendReq>>,
    ) -> Result<Response<AppendResp>, Status> {
        self.admit("single append", &request)?;
        Err(Status::unimplemented("the services append in sessions"))
    }

    async fn delete(&self, request: Request<DeleteReq>) -> Result<Response<DeleteResp>, Status> {
        self.admit("remove", &request)?;
        self.store().delete(request).await
    }

    async fn tombstone(
        &self,
        request: Request<TombstoneReq>,
    ) -> Result<Response<TombstoneResp>, Status> {
        self.admit("remove", &request)?;
        self.store().tombstone(request).await
    }
}
