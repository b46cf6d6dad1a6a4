//! The client side of RPC.

use crate::broker::{Broker, within};
use crate::error::{Unavailable, lacking};
use crate::topology::short;
use futures::future::{BoxFuture, Shared};
use futures::{FutureExt, StreamExt};
use lapin::options::{BasicConsumeOptions, BasicPublishOptions, ConfirmSelectOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, PublisherConfirm};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::{AbortHandle, JoinError};
use uuid::Uuid;

/// RabbitMQ's pseudo-queue that sends a reply to the channel of its request.
const REPLY_TO: &str = "amq.rabbitmq.reply-to";
/// The most pending requests. Further requests wait.
const MAX_PENDING: usize = 1_024;

/// The reason for a missing reply.
#[derive(Debug, Clone, Error)]
pub enum RpcError {
    /// The broker was unreachable, or the connection was lost while the request waited.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
    /// No process serves the queue.
    #[error("no process serves the queue")]
    Unroutable,
    /// No reply came in time. The request may have been served anyway.
    #[error("no reply in time")]
    TimedOut,
}

impl From<lapin::Error> for RpcError {
    fn from(error: lapin::Error) -> Self {
        Self::Unavailable(error.into())
    }
}

type Reply = Result<Vec<u8>, RpcError>;

/// A client of the servers of one queue. Clones share one channel and the limit of 1,024 pending requests.
#[derive(Clone, Debug)]
pub struct RpcClient {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    broker: Broker,
    queue: String,
    permits: Semaphore,
    session: Mutex<Option<SharedSession>>,
}

/// A session that is open or being opened. All callers share it.
type SharedSession = Shared<BoxFuture<'static, Result<Session, Unavailable>>>;

impl RpcClient {
    /// Creates a client of the processes that serve `queue` with [`serve_rpc`](super::serve_rpc). It connects at its
    /// first call.
    #[must_use]
    pub fn new(broker: Broker, queue: impl Into<String>) -> Self {
        let inner = Inner {
            broker,
            queue: queue.into(),
            permits: Semaphore::new(MAX_PENDING),
            session: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
        }
    }

    /// Sends a request and returns its reply. Waits at most `within`, including connecting and queueing. The broker
    /// drops a request that no server has taken by then.
    ///
    /// # Errors
    /// [`RpcError`]. The request may have been served anyway, unless the error is `Unroutable`.
    pub async fn call(&self, request: Vec<u8>, within: Duration) -> Result<Vec<u8>, RpcError> {
        let exchange = self.inner.exchange(request, within);
        tokio::time::timeout(within, exchange)
            .await
            .unwrap_or(Err(RpcError::TimedOut))
    }
}

impl Inner {
    async fn exchange(&self, request: Vec<u8>, within: Duration) -> Reply {
        let ended = |_| RpcError::Unavailable(Unavailable("the connection was lost".to_owned()));
        let _permit = self
            .permits
            .acquire()
            .await
            .map_err(|_| RpcError::TimedOut)?;
        let session = self.session().await?;
        let call = session.pending.begin();
        let properties = BasicProperties::default()
            .with_correlation_id(short(&call.id)?)
            .with_reply_to(REPLY_TO.into())
            .with_expiration(short(&within.as_millis().to_string())?);
        let mandatory = BasicPublishOptions {
            mandatory: true,
            ..BasicPublishOptions::default()
        };
        let queue = short(&self.queue)?;
        let sent = session
            .channel
            .basic_publish("".into(), queue, mandatory, &request, properties);
        tokio::spawn(watch_for_return(sent.await?, session.pending.clone()));
        call.reply.await.map_err(ended)?
    }

    /// The current session, or a new one if it has ended. A separate task opens the session, so that a caller that
    /// stops waiting does not stop it.
    fn session(&self) -> SharedSession {
        let mut session = self.session.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(opening) = session.as_ref() {
            match opening.clone().now_or_never() {
                None => return opening.clone(),
                Some(Ok(open)) if open.is_alive() => return opening.clone(),
                Some(_) => {}
            }
        }
        let broker = self.broker.clone();
        let task = tokio::spawn(async move { Session::open(&broker).await });
        let ended = |error: JoinError| Err(Unavailable(error.to_string()));
        let opening = task.map(move |opened| opened.unwrap_or_else(ended));
        session.insert(opening.boxed().shared()).clone()
    }
}

/// Fails the request of a returned message. Runs even if the caller no longer waits, because `lapin` keeps confirms
/// that are dropped. The returned message may belong to another request, which its correlation id identifies.
async fn watch_for_return(confirm: PublisherConfirm, pending: Pending) {
    let Ok(confirmation) = confirm.await else {
        return;
    };
    if let Some(returned) = confirmation.take_message() {
        pending.finish(&returned.delivery.properties, Err(RpcError::Unroutable));
    }
}

/// A channel for requests, and the task that receives its replies.
#[derive(Clone, Debug)]
struct Session {
    channel: Channel,
    pending: Pending,
    receiver: Arc<AbortOnDrop>,
}

#[derive(Debug)]
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Session {
    async fn open(broker: &Broker) -> Result<Self, Unavailable> {
        let channel = broker.publishing_channel().await?;
        let no_ack = BasicConsumeOptions {
            no_ack: true,
            ..BasicConsumeOptions::default()
        };
        let consuming =
            channel.basic_consume(REPLY_TO.into(), "".into(), no_ack, FieldTable::default());
        let mut replies = within(consuming).await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        let pending = Pending::default();
        let answered = pending.clone();
        let receiver = tokio::spawn(async move {
            let mut reason = Unavailable("the connection was lost".to_owned());
            while let Some(reply) = replies.next().await {
                match reply {
                    Ok(reply) => answered.finish(&reply.properties, Ok(reply.data)),
                    Err(error) => {
                        reason = lacking("write", error);
                        break;
                    }
                }
            }
            answered.fail(&reason);
        });
        let receiver = Arc::new(AbortOnDrop(receiver.abort_handle()));
        Ok(Self {
            channel,
            pending,
            receiver,
        })
    }

    fn is_alive(&self) -> bool {
        self.channel.status().connected() && !self.receiver.0.is_finished()
    }
}

/// The requests that wait for their replies, by correlation id.
#[derive(Clone, Debug, Default)]
struct Pending {
    calls: Arc<Mutex<HashMap<String, oneshot::Sender<Reply>>>>,
}

/// A request that waits for its reply. Dropping it removes it from the pending requests.
struct Call {
    id: String,
    reply: oneshot::Receiver<Reply>,
    _removal: RemoveOnDrop,
}

struct RemoveOnDrop {
    id: String,
    pending: Pending,
}

impl Drop for RemoveOnDrop {
    fn drop(&mut self) {
        self.pending.lock().remove(&self.id);
    }
}

impl Pending {
    fn begin(&self) -> Call {
        let id = Uuid::new_v4().simple().to_string();
        let (sender, reply) = oneshot::channel();
        self.lock().insert(id.clone(), sender);
        let removal = RemoveOnDrop {
            id: id.clone(),
            pending: self.clone(),
        };
        Call {
            id,
            reply,
            _removal: removal,
        }
    }

    fn finish(&self, properties: &BasicProperties, reply: Reply) {
        let Some(id) = properties.correlation_id() else {
            return;
        };
        if let Some(caller) = self.lock().remove(id.as_str()) {
            // Ignore the error: the caller no longer waits.
            let _ = caller.send(reply);
        }
    }

    /// Fails all requests.
    fn fail(&self, reason: &Unavailable) {
        for (_, caller) in self.lock().drain() {
            // Ignore the error: the caller no longer waits.
            let _ = caller.send(Err(reason.clone().into()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, oneshot::Sender<Reply>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
