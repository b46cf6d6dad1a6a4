//! The topology of read models: the exchanges and queues of each generation, and their dead-letter queues.
//!
//! Invariants: a publisher and a projector each declare only what their accounts need (ADR 23). Readers bind to the exchange
//! [`READERS`], because RabbitMQ's permissions do not tell the exchange `users` from the queue `users`.

use super::message::{EXCHANGE, PARTITION_KEY};
use messaging::{
    Binding, Broker, Delivery, Destination, Exchange, ExchangeKind, Message, PublishError,
    Publisher, Queue, QueueKind, Topology,
};
use std::borrow::Cow;
use std::time::Duration;
use uuid::Uuid;

/// How often the topology is declared again. A deleted part is missing for at most this long.
const DECLARE_EVERY: Duration = Duration::from_secs(2);

/// The exchange that readers bind to: our read models and other teams.
pub const READERS: &str = "users.events";
/// Matches every routing key.
const EVERYTHING: &str = "#";
/// The media type of a dead letter whose sender named none.
const UNKNOWN_TYPE: &str = "application/octet-stream";
/// The header with the reason why a message was dead-lettered.
const REASON: &str = "reason";

/// The topology of a publisher: the exchange that all messages are published to, and the one that passes them on to readers.
#[must_use]
pub fn published() -> Topology {
    Topology {
        exchanges: vec![topic(EXCHANGE), topic(READERS)],
        bindings: vec![Binding {
            source: EXCHANGE.to_owned(),
            destination: Destination::Exchange(READERS.to_owned()),
            routing_key: EVERYTHING.to_owned(),
        }],
        ..Topology::default()
    }
}

fn topic(name: &str) -> Exchange {
    Exchange {
        name: name.to_owned(),
        kind: ExchangeKind::Topic,
    }
}

/// The queues of one generation of a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReaderQueues {
    /// The name of the read model.
    pub read_model: &'static str,
    /// The number of the generation.
    pub generation: u32,
    /// The number of queues. It is fixed for a generation, because another number would move users to other queues and so
    /// break the order of their events.
    pub partitions: u32,
}

impl ReaderQueues {
    /// The name of the exchange that its messages come through.
    #[must_use]
    pub fn exchange(&self) -> String {
        format!("users.{}.g{}", self.read_model, self.generation)
    }

    /// The name of a partition's queue.
    #[must_use]
    pub fn queue(&self, partition: u32) -> String {
        format!("{}.{partition}", self.exchange())
    }

    /// The names of all queues.
    pub fn queues(&self) -> impl Iterator<Item = String> {
        (0..self.partitions).map(|partition| self.queue(partition))
    }

    /// The exchange for the dead letters of these queues. A projector may not publish to the default exchange, which would let
    /// it publish to every queue.
    #[must_use]
    pub fn dead_letter_exchange(&self) -> String {
        dead_letter_queue(&self.exchange())
    }

    /// The topology. Its exchange hashes by user, so that one user's messages stay in one queue, in order.
    #[must_use]
    pub fn topology(&self) -> Topology {
        let dead_letters = self.dead_letter_exchange();
        let mut topology = Topology {
            exchanges: vec![topic(READERS), topic(&dead_letters)],
            ..Topology::default()
        };
        topology.exchanges.push(Exchange {
            name: self.exchange(),
            kind: ExchangeKind::ConsistentHash {
                header: PARTITION_KEY.to_owned(),
            },
        });
        for name in self.queues() {
            let dead = dead_letter_queue(&name);
            topology.queues.push(Queue {
                name: dead.clone(),
                kind: QueueKind::Log,
            });
            topology.queues.push(Queue {
                name: name.clone(),
                kind: QueueKind::OrderedLog,
            });
            topology.bindings.push(Binding {
                source: dead_letters.clone(),
                destination: Destination::Queue(dead.clone()),
                routing_key: dead,
            });
            topology.bindings.push(Binding {
                source: self.exchange(),
                destination: Destination::Queue(name),
                routing_key: "1".to_owned(),
            });
        }
        // This binding comes last, so that no message is routed before all queues are bound.
        topology.bindings.push(Binding {
            source: READERS.to_owned(),
            destination: Destination::Exchange(self.exchange()),
            routing_key: EVERYTHING.to_owned(),
        });
        topology
    }
}

/// The name of a queue's dead-letter queue.
#[must_use]
pub fn dead_letter_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// Declares the topology again and again, for ever, because an operator may delete any part at any time. Calls `lost` if a
/// part was missing, because messages may be lost too.
pub async fn keep_declared(broker: &Broker, topology: &Topology, lost: impl Fn()) {
    loop {
        tokio::time::sleep(DECLARE_EVERY).await;
        match broker.declare(topology).await {
            Ok(missing) if missing.is_empty() => {}
            Ok(missing) => {
                tracing::warn!(
                    ?missing,
                    "deleted parts of the topology were declared again"
                );
                lost();
            }
            Err(error) => tracing::debug!(%error, "the topology could not be declared"),
        }
    }
}

/// Puts a message into the dead-letter queue of its queue through this exchange, and returns when the broker has confirmed it. The message keeps its
/// body, its id and its media type, so that an operator can move it back.
///
/// # Errors
/// As for [`Publisher::publish`].
pub async fn dead_letter(
    publisher: &Publisher,
    (exchange, queue): (&str, &str),
    delivery: &Delivery,
    reason: &str,
) -> Result<(), PublishError> {
    let message = Message {
        exchange: exchange.to_owned(),
        routing_key: dead_letter_queue(queue),
        id: delivery
            .id()
            .map_or_else(|| Uuid::new_v4().to_string(), str::to_owned),
        content_type: Cow::Owned(delivery.content_type().unwrap_or(UNKNOWN_TYPE).to_owned()),
        headers: vec![(REASON.to_owned(), reason.to_owned())],
        body: delivery.body.clone(),
    };
    publisher.publish(message).await
}
