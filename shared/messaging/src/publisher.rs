//! Publishes in groups. All waiting messages go out together on one channel, and the next group follows when every message of
//! this one is settled.
//!
//! A group is settled as a whole because `lapin` attaches a returned message to the next confirm, which may belong to another
//! message. Only when nothing else is in flight on the channel have all returned messages arrived. They are then matched by
//! their message ids.

use crate::broker::{Broker, within};
use crate::error::{Unavailable, lacking};
use crate::message::Message;
use crate::topology::{Topology, short};
use futures::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{Channel, Confirmation};
use std::collections::HashSet;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

const GROUP: usize = 256;
/// The most messages that wait: as many as go out next, and as many as can be prepared meanwhile.
const OUTBOX: usize = 2 * GROUP;
const CONFIRM_WITHIN: Duration = Duration::from_secs(15);
/// The topology is declared again after this long. The loss of a part may return no message, because another queue takes them
/// all.
const DECLARED_FOR: Duration = Duration::from_secs(5);

/// Why a message may not be in any queue.
#[derive(Debug, Clone, Error)]
pub enum PublishError {
    /// No queue is bound for the message, so the broker has dropped it.
    #[error("no queue takes the message")]
    Unroutable,
    /// The broker, or a limit of the protocol, refused this message.
    #[error("the message was refused")]
    Refused,
    /// It is unknown whether the broker has the message, or no queue takes it because the topology cannot be declared.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Publishes confirmed, mandatory and persistent messages, in the order in which it is given them. A failure can break this
/// order. If a message must not overtake another, send it after the other is confirmed.
#[derive(Clone, Debug)]
pub struct Publisher {
    outbox: mpsc::Sender<Outgoing>,
}

#[derive(Debug)]
struct Outgoing {
    message: Arc<Message>,
    outcome: oneshot::Sender<Outcome>,
}

type Outcome = Result<(), PublishError>;

impl Publisher {
    /// Creates a publisher with a channel of its own. It declares `topology` at once, when it opens the channel again, after a
    /// message that no queue took, and at intervals while it publishes.
    #[must_use]
    pub fn new(broker: Broker, topology: Topology) -> Self {
        let (outbox, inbox) = mpsc::channel(OUTBOX);
        tokio::spawn(
            Driver {
                broker,
                topology,
                channel: None,
                declared: None,
                undeclared: None,
            }
            .run(inbox),
        );
        Self { outbox }
    }

    /// Gives a message to the publisher and returns its confirm. Waits while the outbox (512 messages) is full. Messages go out
    /// in the order of these calls.
    ///
    /// # Errors
    /// [`Unavailable`] when the runtime is shutting down.
    pub async fn send(&self, message: impl Into<Arc<Message>>) -> Result<Confirm, Unavailable> {
        let message = message.into();
        let (outcome, settled) = oneshot::channel();
        let sent = self.outbox.send(Outgoing { message, outcome }).await;
        sent.map_err(|_| ended())?;
        Ok(Confirm { settled })
    }

    /// [`send`](Self::send)s a message and waits for its confirm.
    ///
    /// # Errors
    /// [`PublishError`]. After any of them the message may be published again.
    pub async fn publish(&self, message: Message) -> Result<(), PublishError> {
        self.send(message).await?.await
    }
}

/// Resolves when the broker has confirmed the message in at least one queue, or with the reason why it has not.
#[derive(Debug)]
pub struct Confirm {
    settled: oneshot::Receiver<Outcome>,
}

impl Future for Confirm {
    type Output = Result<(), PublishError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let settled = Pin::new(&mut self.settled).poll(context);
        settled.map(|settled| settled.unwrap_or_else(|_| Err(ended().into())))
    }
}

fn ended() -> Unavailable {
    Unavailable("the publisher has ended".to_owned())
}

struct Driver {
    broker: Broker,
    topology: Topology,
    channel: Option<Channel>,
    /// When the topology was declared. `None` if it has to be declared before the next message.
    declared: Option<Instant>,
    /// Why the topology could not be declared the last time. If no queue takes a message, this is the reason.
    undeclared: Option<Unavailable>,
}

impl Driver {
    async fn run(mut self, mut inbox: mpsc::Receiver<Outgoing>) {
        // Others may need the topology before the first message. If this fails, the first message tries again.
        if self.open_channel().await.is_ok() {
            self.declare().await;
        }
        let mut group = Vec::with_capacity(GROUP);
        while inbox.recv_many(&mut group, GROUP).await > 0 {
            self.settle(std::mem::take(&mut group)).await;
        }
    }

    async fn settle(&mut self, group: Vec<Outgoing>) {
        let (messages, outcomes): (Vec<_>, Vec<_>) = group
            .into_iter()
            .map(|outgoing| (outgoing.message, outgoing.outcome))
            .unzip();
        let settled = match self.publish_all(&messages).await {
            Ok(settled) => {
                let returned = |outcome: &Outcome| matches!(outcome, Err(PublishError::Unroutable));
                if settled.iter().any(returned) {
                    self.declared = None;
                }
                settled
                    .into_iter()
                    .map(|outcome| self.with_reason(outcome))
                    .collect()
            }
            Err(unavailable) => {
                // Late confirms of this group must not be taken for those of the next one.
                self.channel = None;
                vec![Err(unavailable.into()); messages.len()]
            }
        };
        for (outcome, result) in outcomes.into_iter().zip(settled) {
            // The caller may no longer wait.
            let _ = outcome.send(result);
        }
    }

    fn with_reason(&self, outcome: Outcome) -> Outcome {
        match (outcome, &self.undeclared) {
            (Err(PublishError::Unroutable), Some(reason)) => Err(reason.clone().into()),
            (outcome, _) => outcome,
        }
    }

    async fn publish_all(
        &mut self,
        messages: &[Arc<Message>],
    ) -> Result<Vec<Outcome>, Unavailable> {
        let channel = self.open_channel().await?;
        let declared = self.declared;
        if declared.is_none_or(|declared| declared.elapsed() > DECLARED_FOR) {
            self.declare().await;
        }
        match tokio::time::timeout(CONFIRM_WITHIN, publish_group(&channel, messages)).await {
            Ok(settled) => settled.map_err(|error| lacking("write", error)),
            Err(_) => Err(Unavailable(format!("no confirm within {CONFIRM_WITHIN:?}"))),
        }
    }

    async fn open_channel(&mut self) -> Result<Channel, Unavailable> {
        if let Some(channel) = self
            .channel
            .as_ref()
            .filter(|channel| channel.status().connected())
        {
            return Ok(channel.clone());
        }
        let channel = self.broker.publishing_channel().await?;
        within(channel.confirm_select(ConfirmSelectOptions::default())).await?;
        self.declared = None;
        Ok(self.channel.insert(channel).clone())
    }

    /// Messages are sent even if a part cannot be declared. Those that need it fail by themselves.
    async fn declare(&mut self) {
        self.undeclared = None;
        match self.broker.declare(&self.topology).await {
            Ok(anew) if anew.is_empty() => {}
            Ok(anew) => tracing::info!(?anew, "declared what was missing"),
            Err(error) => {
                tracing::warn!(%error, "the topology cannot be declared");
                self.undeclared = Some(error);
            }
        }
        self.declared = Some(Instant::now());
    }
}

async fn publish_group(
    channel: &Channel,
    messages: &[Arc<Message>],
) -> lapin::Result<Vec<Outcome>> {
    let mandatory = BasicPublishOptions {
        mandatory: true,
        ..BasicPublishOptions::default()
    };
    let mut confirms = Vec::with_capacity(messages.len());
    let mut refused = HashSet::new();
    for (index, message) in messages.iter().enumerate() {
        // A message that cannot be encoded is refused alone. It must not delay the others.
        let (Ok(exchange), Ok(key), Ok(properties)) = (
            short(&message.exchange),
            short(&message.routing_key),
            message.properties(),
        ) else {
            refused.insert(index);
            continue;
        };
        let sent = channel.basic_publish(exchange, key, mandatory, &message.body, properties);
        let confirm = sent.await?;
        confirms.push(async move { confirm.await.map(|confirmation| (index, confirmation)) });
    }
    fail::fail_point!("published-not-confirmed", |_| std::process::abort());
    let confirmations = try_join_all(confirms).await?;
    let mut returned = HashSet::new();
    for (index, confirmation) in confirmations {
        if !confirmation.is_ack() {
            refused.insert(index);
        }
        returned.extend(returned_id(confirmation));
    }
    Ok(messages
        .iter()
        .enumerate()
        .map(|(index, message)| match () {
            () if refused.contains(&index) => Err(PublishError::Refused),
            () if returned.contains(&message.id) => Err(PublishError::Unroutable),
            () => Ok(()),
        })
        .collect())
}

fn returned_id(confirmation: Confirmation) -> Option<String> {
    let returned = confirmation.take_message()?;
    returned
        .delivery
        .properties
        .message_id()
        .as_ref()
        .map(ToString::to_string)
}
