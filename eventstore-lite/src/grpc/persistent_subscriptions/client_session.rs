//! The call of one client of a group. Events go out; acknowledgements come in.
//!
//! Invariant: the call always ends with an error, because clients treat a normal end as a fault of their own.

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Status, Streaming};
use uuid::Uuid;

use super::PersistentSubscriptionsService;
use super::errors::{dropped, full};
use super::request::{Join, join};
use super::to_wire;
use crate::access::Caller;
use crate::calls::LongCall;
use crate::event_id;
use crate::grpc::permission::{caller, calls, long_call};
use crate::grpc::status::{invalid, unavailable};
use crate::persistent::{GroupConnection, GroupKey, Handle, NackAction, Peer};
use crate::wire::persistent_subscriptions::read_req::{Content, nack};
use crate::wire::persistent_subscriptions::{ReadReq, ReadResp};
use crate::wire::shared;

/// How many answers wait for the client, in addition to those that its group has sent.
const WAITING: usize = 16;

pub(super) type Answers = ReceiverStream<Result<ReadResp, Status>>;

pub(super) async fn serve(
    service: &PersistentSubscriptionsService,
    request: Request<Streaming<ReadReq>>,
) -> Result<Answers, Status> {
    let caller = caller(&request)?;
    let (peer, long_call) = (peer(&request), long_call(&calls(&request)?)?);
    let mut requests = request.into_inner();
    let first = requests.message().await?.and_then(|first| first.content);
    let Some(Content::Options(options)) = first else {
        return Err(invalid("the first message must have `options`"));
    };
    let Join {
        key,
        buffer_size,
        structured_ids,
    } = join(options)?;
    caller.read(key.source.stream())?;
    let group = service.find(&key).await?;
    let connection = group.connect(peer, buffer_size).await?;
    let connection = connection.ok_or_else(|| full(&key))?;
    let (answers, receiver) = mpsc::channel(WAITING);
    let client = ClientSession {
        key,
        caller,
        group,
        answers,
        structured_ids,
        shutdown: service.shutdown.clone(),
        _long_call: long_call,
    };
    tokio::spawn(client.serve(connection, requests));
    Ok(ReceiverStream::new(receiver))
}

fn peer(request: &Request<Streaming<ReadReq>>) -> Peer {
    let text = |metadata: &MetadataMap, key| {
        let value = metadata.get(key).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    };
    let address = request.remote_addr();
    Peer {
        address: address
            .map(|address| address.to_string())
            .unwrap_or_default(),
        connection_name: text(request.metadata(), "connection-name"),
    }
}

struct ClientSession {
    key: GroupKey,
    caller: Caller,
    group: Handle,
    answers: mpsc::Sender<Result<ReadResp, Status>>,
    structured_ids: bool,
    shutdown: CancellationToken,
    _long_call: LongCall,
}

impl ClientSession {
    async fn serve(self, mut connection: GroupConnection, requests: Streaming<ReadReq>) {
        let client = connection.client;
        let ended = tokio::select! {
            biased;
            () = self.answers.closed() => None,
            () = self.shutdown.cancelled() => Some(unavailable()),
            status = self.handle_requests(requests) => Some(status),
            () = self.deliver(&mut connection) => Some(self.dropped()),
        };
        drop(connection);
        // If the group has ended, it has already dropped its clients.
        let _ended = self.group.disconnect(client).await;
        if let Some(status) = ended {
            // If the client is gone, nobody needs the status.
            drop(self.answers.send(Err(status)).await);
        }
    }

    /// Sends events until the group ends or the client is gone.
    async fn deliver(&self, connection: &mut GroupConnection) {
        let mut sent = self
            .answers
            .send(Ok(to_wire::confirmation(&self.key)))
            .await;
        while sent.is_ok() {
            let Some(message) = connection.events.recv().await else {
                return;
            };
            let event = to_wire::event(&message, self.caller, self.structured_ids);
            sent = self.answers.send(Ok(event)).await;
        }
    }

    /// The status for the end of a group, which ends when it is deleted or updated, and when the server stops.
    fn dropped(&self) -> Status {
        if self.shutdown.is_cancelled() {
            unavailable()
        } else {
            dropped(&self.key)
        }
    }

    /// Handles requests until one is invalid. A client that sends no further requests still receives events.
    async fn handle_requests(&self, mut requests: Streaming<ReadReq>) -> Status {
        loop {
            match requests.message().await {
                Ok(Some(request)) => match self.handle(request).await {
                    Ok(()) => {}
                    Err(status) => return status,
                },
                Ok(None) => return std::future::pending().await,
                Err(status) => return status,
            }
        }
    }

    async fn handle(&self, request: ReadReq) -> Result<(), Status> {
        let done = match request.content {
            Some(Content::Ack(ack)) => self.group.ack(ids(&ack.ids)?).await,
            Some(Content::Nack(nack)) => {
                let action = match nack::Action::try_from(nack.action) {
                    Ok(nack::Action::Unknown | nack::Action::Retry) => NackAction::Retry,
                    Ok(nack::Action::Park) => NackAction::Park,
                    Ok(nack::Action::Skip) => NackAction::Skip,
                    Ok(nack::Action::Stop) => NackAction::Stop,
                    Err(_) => return Err(invalid("`action` is unknown")),
                };
                let ids = ids(&nack.ids)?;
                self.group.nack(ids, action, nack.reason).await
            }
            Some(Content::Options(_)) => return Err(invalid("`options` was sent twice")),
            None => return Err(invalid("`content` is missing")),
        };
        done.map_err(|_| self.dropped())
    }
}

fn ids(ids: &[shared::Uuid]) -> Result<Vec<Uuid>, Status> {
    let ids: Option<Vec<Uuid>> = ids.iter().map(event_id::parse).collect();
    ids.ok_or_else(|| invalid("one of `ids` is not a UUID"))
}
