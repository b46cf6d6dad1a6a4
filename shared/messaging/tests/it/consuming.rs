//! Consumers: opening, redelivery and deleted queues.

use crate::support::{broker, letters, message, receive, soon};
use messaging::{Batch, Broker, Consumer, Incoming, Publisher};
use private_broker::PrivateBroker;
use serde_json::Value;

fn consumer(broker: &Broker) -> Consumer {
    Consumer::new(broker.clone(), letters(), "letters".into(), 5)
}

/// Waits until the consumer has opened its queue, and returns whether it was declared anew.
async fn opened(consumer: &mut Consumer) -> bool {
    match soon("opening", consumer.next(1)).await {
        Incoming::Opened { declared_anew } => declared_anew,
        other @ (Incoming::Batch(_) | Incoming::Closed(_)) => {
            panic!("the queue was not opened: {other:?}")
        }
    }
}

async fn batch(consumer: &mut Consumer, limit: usize) -> Batch {
    match soon("a batch", consumer.next(limit)).await {
        Incoming::Batch(batch) => batch,
        other @ (Incoming::Opened { .. } | Incoming::Closed(_)) => panic!("no batch: {other:?}"),
    }
}

async fn closed(consumer: &mut Consumer) {
    let incoming = soon("closing", consumer.next(100)).await;
    assert!(matches!(incoming, Incoming::Closed(_)), "{incoming:?}");
}

#[tokio::test]
async fn a_queue_is_reported_as_declared_anew_only_if_it_was_missing() {
    let broker = broker().await;
    let mut first = consumer(&broker);
    assert!(opened(&mut first).await);
    first.close().await;
    assert!(!opened(&mut consumer(&broker)).await);
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_and_reported() {
    let node = PrivateBroker::shared().await;
    let url = node.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let broker = Broker::connect(&url, "test").unwrap();
    let mut consumer = consumer(&broker);
    opened(&mut consumer).await;
    let path = format!("queues/{vhost}/letters");
    node.management("DELETE", &path, &Value::Null)
        .await
        .unwrap();
    closed(&mut consumer).await;
    assert!(
        opened(&mut consumer).await,
        "the queue is not reported as declared anew"
    );
    let publisher = Publisher::new(broker, letters());
    soon("publishing", publisher.publish(message("letter.sent", 1)))
        .await
        .unwrap();
    assert_eq!(receive(&mut consumer, 1).await, ["1"]);
}

#[tokio::test]
async fn a_deleted_queue_is_reported_even_if_another_client_declared_it_again() {
    let node = PrivateBroker::shared().await;
    let url = node.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let broker = Broker::connect(&url, "test").unwrap();
    let mut consumer = consumer(&broker);
    opened(&mut consumer).await;
    let path = format!("queues/{vhost}/letters");
    node.management("DELETE", &path, &Value::Null)
        .await
        .unwrap();
    closed(&mut consumer).await;
    broker.declare(&letters()).await.unwrap();
    assert!(
        opened(&mut consumer).await,
        "the deletion of the queue is not reported"
    );
}

#[tokio::test]
async fn a_standby_learns_that_its_queue_was_deleted() {
    let node = PrivateBroker::shared().await;
    let url = node.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let broker = Broker::connect(&url, "test").unwrap();
    let (mut active, mut standby) = (consumer(&broker), consumer(&broker));
    opened(&mut active).await;
    opened(&mut standby).await;
    let path = format!("queues/{vhost}/letters");
    node.management("DELETE", &path, &Value::Null)
        .await
        .unwrap();
    closed(&mut standby).await;
    closed(&mut active).await;
}

#[tokio::test]
async fn each_failed_attempt_to_open_a_queue_is_reported() {
    let node = PrivateBroker::start().await.unwrap();
    node.kill().await.unwrap();
    let broker = Broker::connect(&node.amqp_url(), "test").unwrap();
    let mut consumer = consumer(&broker);
    closed(&mut consumer).await;
    closed(&mut consumer).await;
    node.restart().await.unwrap();
    let reopened = async { while matches!(consumer.next(1).await, Incoming::Closed(_)) {} };
    soon("opening", reopened).await;
}

#[tokio::test]
async fn a_delivery_contains_what_was_published() {
    let broker = broker().await;
    let mut consumer = consumer(&broker);
    opened(&mut consumer).await;
    let publisher = Publisher::new(broker, letters());
    soon("publishing", publisher.publish(message("letter.sent", 7)))
        .await
        .unwrap();
    let batch = batch(&mut consumer, 1).await;
    let delivery = &batch.deliveries[0];
    assert_eq!(delivery.body, b"7");
    assert_eq!(delivery.id(), Some("7"));
    assert_eq!(delivery.header("kind"), Some("letter.sent"));
    assert_eq!(delivery.header("absent"), None);
    assert!(!delivery.redelivered);
}

#[tokio::test]
async fn unacknowledged_messages_of_a_stopped_consumer_are_redelivered_in_order() {
    let broker = broker().await;
    let mut first = consumer(&broker);
    opened(&mut first).await;
    let mut second = consumer(&broker);
    opened(&mut second).await;
    let publisher = Publisher::new(broker, letters());
    for id in 0..20 {
        soon("publishing", publisher.publish(message("letter.sent", id)))
            .await
            .unwrap();
    }
    let mut taken = 0;
    while taken < 5 {
        taken += batch(&mut first, 5 - taken).await.deliveries.len();
    }
    drop(first);
    let received = receive(&mut second, 20).await;
    let expected: Vec<String> = (0..20).map(|id| id.to_string()).collect();
    assert_eq!(received, expected);
}

#[tokio::test]
async fn a_message_is_redelivered_without_limit() {
    let broker = broker().await;
    let publisher = Publisher::new(broker.clone(), letters());
    soon("publishing", publisher.publish(message("letter.sent", 1)))
        .await
        .unwrap();
    for delivery in 0..25 {
        let mut consumer = consumer(&broker);
        opened(&mut consumer).await;
        let batch = batch(&mut consumer, 1).await;
        assert_eq!(batch.deliveries[0].redelivered, delivery > 0);
        consumer.close().await;
    }
}
