//! Replies, and acknowledgements of single messages.

use crate::support::{broker, receive, soon};
use messaging::{
    Broker, Consumer, Delivery, Incoming, Message, Publisher, Queue, QueueKind, Replies, Topology,
};
use private_broker::PrivateBroker;
use serde_json::{Value, json};
use std::time::Duration;

fn queue(name: &str, kind: QueueKind) -> Topology {
    Topology {
        queues: vec![Queue {
            name: name.into(),
            kind,
        }],
        ..Topology::default()
    }
}

async fn opened(broker: &Broker, name: &str, kind: QueueKind) -> Consumer {
    let mut consumer = Consumer::new(broker.clone(), queue(name, kind), name.into(), 10);
    let incoming = soon("opening", consumer.next(1)).await;
    assert!(matches!(incoming, Incoming::Opened { .. }), "{incoming:?}");
    consumer
}

async fn next(consumer: &mut Consumer) -> Delivery {
    match soon("a message", consumer.next(1)).await {
        Incoming::Batch(mut batch) => batch.deliveries.remove(0),
        other @ (Incoming::Opened { .. } | Incoming::Closed(_)) => panic!("{other:?}"),
    }
}

async fn publish(broker: &Broker, queue: &str, body: &str) {
    let message = Message {
        exchange: String::new(),
        routing_key: queue.into(),
        id: body.into(),
        content_type: "text/plain".into(),
        headers: Vec::new(),
        body: body.into(),
    };
    let publisher = Publisher::new(broker.clone(), Topology::default());
    soon("publishing", publisher.publish(message))
        .await
        .unwrap();
}

/// Publishes a request, as another client would.
async fn request(node: &PrivateBroker, vhost: &str, reply_to: &str, id: &str) {
    let properties = json!({"reply_to": reply_to, "correlation_id": id});
    let body = json!({"properties": properties, "routing_key": "requests", "payload": id, "payload_encoding": "string"});
    let path = format!("exchanges/{vhost}/amq.default/publish");
    let answer = node.management("POST", &path, &body).await.unwrap();
    assert_eq!(answer["routed"], true);
}

#[tokio::test]
async fn a_reply_goes_to_the_queue_that_the_message_names_under_its_correlation_id() {
    let node = PrivateBroker::shared().await;
    let url = node.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let broker = Broker::connect(&url, "test").unwrap();
    let mut requests = opened(&broker, "requests", QueueKind::Plain).await;
    let mut inbox = opened(&broker, "inbox", QueueKind::Plain).await;
    let replies = Replies::new(broker);
    // The broker drops what goes to a queue that does not exist, or is no address.
    for (reply_to, id) in [
        ("nobody", "1"),
        ("amq.rabbitmq.reply-to.x", "2"),
        ("inbox", "3"),
    ] {
        request(node, vhost, reply_to, id).await;
        let request = next(&mut requests).await;
        assert_eq!(request.reply_to(), Some(reply_to));
        let sent = replies.send(&request, "text/plain", b"hello");
        soon("a reply", sent).await.unwrap();
        request.ack().await;
    }
    let reply = next(&mut inbox).await;
    assert_eq!(reply.body, b"hello");
    assert_eq!(reply.correlation_id(), Some("3"));
    assert_eq!(reply.content_type(), Some("text/plain"));
}

#[tokio::test]
async fn a_message_that_was_acknowledged_alone_does_not_come_again_and_the_others_do() {
    let broker = broker().await;
    let mut consumer = opened(&broker, "letters", QueueKind::Plain).await;
    let mut taken = Vec::new();
    for letter in ["1", "2", "3"] {
        publish(&broker, "letters", letter).await;
        taken.push(next(&mut consumer).await);
    }
    taken.remove(1).ack().await;
    consumer.close().await;
    let mut consumer = opened(&broker, "letters", QueueKind::Plain).await;
    assert_eq!(receive(&mut consumer, 2).await, ["1", "3"]);
}

#[tokio::test]
async fn a_plain_queue_has_no_arguments_and_an_expiring_one_drops_its_messages() {
    let node = PrivateBroker::shared().await;
    let url = node.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let broker = Broker::connect(&url, "test").unwrap();
    let expiring = QueueKind::ExpiringLog(Duration::from_millis(50));
    for (name, kind) in [("plain", QueueKind::Plain), ("expiring", expiring)] {
        broker.declare(&queue(name, kind)).await.unwrap();
    }
    let path = format!("queues/{vhost}/plain");
    let plain = node.management("GET", &path, &Value::Null).await.unwrap();
    // RabbitMQ 4 adds the type of a queue that was declared without one.
    let mut arguments = plain["arguments"].as_object().unwrap().clone();
    arguments.retain(|name, value| name != "x-queue-type" || *value != "classic");
    assert!(arguments.is_empty(), "{arguments:?}");
    assert_eq!(
        (&plain["durable"], &plain["auto_delete"]),
        (&json!(true), &json!(false))
    );
    publish(&broker, "expiring", "1").await;
    let get = json!({"count": 1, "ackmode": "ack_requeue_true", "encoding": "auto"});
    let path = format!("queues/{vhost}/expiring/get");
    let dropped = async {
        while node.management("POST", &path, &get).await.unwrap() != json!([]) {
            tokio::task::yield_now().await;
        }
    };
    soon("dropping", dropped).await;
}
