//! Test support: a virtual host for each test, a topology, and waiting with a deadline.

use messaging::{
    Binding, Broker, Consumer, Destination, Exchange, ExchangeKind, Incoming, Message, Queue,
    QueueKind, Topology,
};
use private_broker::PrivateBroker;
use std::time::Duration;

/// The time limit of each wait in these tests.
const DEADLINE: Duration = Duration::from_mins(1);

/// Connects to a new virtual host of the shared node.
pub(crate) async fn broker() -> Broker {
    Broker::connect(&PrivateBroker::shared().await.vhost().await, "test").unwrap()
}

/// The exchange `events`, and the queue `letters` bound to it with `letter.*`.
pub(crate) fn letters() -> Topology {
    Topology {
        exchanges: vec![Exchange {
            name: "events".into(),
            kind: ExchangeKind::Topic,
        }],
        queues: vec![Queue {
            name: "letters".into(),
            kind: QueueKind::OrderedLog,
        }],
        bindings: vec![Binding {
            source: "events".into(),
            destination: Destination::Queue("letters".into()),
            routing_key: "letter.*".into(),
        }],
    }
}

pub(crate) fn message(routing_key: &str, id: impl std::fmt::Display) -> Message {
    Message {
        exchange: "events".into(),
        routing_key: routing_key.into(),
        id: id.to_string(),
        content_type: "text/plain".into(),
        headers: vec![("kind".into(), routing_key.into())],
        body: id.to_string().into_bytes(),
    }
}

/// Returns the result of the work, or panics after the deadline.
pub(crate) async fn soon<T>(what: &str, work: impl Future<Output = T>) -> T {
    let done = tokio::time::timeout(DEADLINE, work).await;
    done.unwrap_or_else(|_| panic!("{what} did not happen within {DEADLINE:?}"))
}

/// Consumes and acknowledges until `count` distinct messages have arrived, and returns their bodies in order.
pub(crate) async fn receive(consumer: &mut Consumer, count: usize) -> Vec<String> {
    let mut bodies: Vec<String> = Vec::new();
    let all = async {
        while bodies.len() < count {
            let Incoming::Batch(batch) = consumer.next(10).await else {
                continue;
            };
            for delivery in &batch.deliveries {
                let body = String::from_utf8(delivery.body.clone()).unwrap();
                if !bodies.contains(&body) {
                    bodies.push(body);
                }
            }
            batch.ack().await;
        }
    };
    soon("receiving", all).await;
    bodies
}
