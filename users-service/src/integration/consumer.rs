//! The queues of the read model `directory`, generation 1: what is declared for them, and where what cannot be decoded
//! goes.

use super::message::{EXCHANGE, PARTITION_KEY};
use messaging::{
    Binding, Broker, Delivery, Destination, Exchange, ExchangeKind, Message, PublishError,
    Publisher, Queue, QueueKind, Topology,
};
use std::time::Duration;
use uuid::Uuid;

/// How many queues share the users. Fixed for a generation: another number would change the order of events per user.
pub const PARTITIONS: usize = 4;

/// How long a part of the topology that was deleted may be missing.
const DECLARE_EVERY: Duration = Duration::from_secs(2);

const GENERATION: &str = "users.directory.g1";
/// The header that says why a message is in the dead queue.
const REASON: &str = "reason";

/// The exchange that all publish to, for those who only publish.
#[must_use]
pub fn published() -> Topology {
    Topology {
        exchanges: vec![Exchange {
            name: EXCHANGE.to_owned(),
            kind: ExchangeKind::Topic,
        }],
        ..Topology::default()
    }
}

/// The queue of one partition.
#[must_use]
pub fn queue(partition: usize) -> String {
    format!("{GENERATION}.{partition}")
}

/// Where messages of a queue go that cannot be decoded.
#[must_use]
pub fn dead_queue(queue: &str) -> String {
    format!("{queue}.dead")
}

/// All that the read model needs: its exchange hashes by user, so that one user's messages stay in one queue, in order.
#[must_use]
pub fn topology() -> Topology {
    let mut topology = published();
    topology.exchanges.push(Exchange {
        name: GENERATION.to_owned(),
        kind: ExchangeKind::ConsistentHash {
            header: PARTITION_KEY.to_owned(),
        },
    });
    for name in (0..PARTITIONS).map(queue) {
        topology.queues.push(Queue {
            name: dead_queue(&name),
            kind: QueueKind::Log,
        });
        topology.queues.push(Queue {
            name: name.clone(),
            kind: QueueKind::OrderedLog,
        });
        topology.bindings.push(Binding {
            source: GENERATION.to_owned(),
            destination: Destination::Queue(name),
            routing_key: "1".to_owned(),
        });
    }
    // Last, so that nothing is routed by half of the queues.
    topology.bindings.push(Binding {
        source: EXCHANGE.to_owned(),
        destination: Destination::Exchange(GENERATION.to_owned()),
        routing_key: "#".to_owned(),
    });
    topology
}

/// Declares all of it again and again, for ever, because an operator may delete any part at any time, and calls `lost` when
/// something was missing: messages may be lost with it.
pub async fn keep_declared(broker: &Broker, lost: impl Fn()) {
    loop {
        tokio::time::sleep(DECLARE_EVERY).await;
        match broker.declare(&topology()).await {
            Ok(anew) if anew.is_empty() => {}
            Ok(anew) => {
                tracing::warn!(?anew, "declared again what was deleted");
                lost();
            }
            Err(error) => tracing::debug!(%error, "the topology cannot be declared"),
        }
    }
}

/// Puts a message into the dead queue of its queue and returns when it is safe there.
///
/// # Errors
/// As [`Publisher::publish`].
pub async fn bury(
    publisher: &Publisher,
    queue: &str,
    delivery: &Delivery,
    reason: &str,
) -> Result<(), PublishError> {
    let message = Message {
        exchange: String::new(),
        routing_key: dead_queue(queue),
        id: Uuid::new_v4().to_string(),
        content_type: "application/octet-stream",
        headers: vec![(REASON.to_owned(), reason.to_owned())],
        body: delivery.body.clone(),
    };
    publisher.publish(message).await
}
