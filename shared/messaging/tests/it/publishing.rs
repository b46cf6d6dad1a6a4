//! Publishers: confirms, returned messages and failures of the broker.

use crate::support::{broker, letters, message, receive, soon};
use futures::future::join_all;
use jittered_backoff::Backoff;
use messaging::{Broker, Consumer, PublishError, Publisher};
use private_broker::PrivateBroker;
use serde_json::Value;

#[tokio::test]
async fn publishing_a_message_that_no_queue_takes_fails() {
    let publisher = Publisher::new(broker().await, letters());
    let outcome = soon("publishing", publisher.publish(message("parcel.sent", 1))).await;
    assert!(
        matches!(outcome, Err(PublishError::Unroutable)),
        "{outcome:?}"
    );
}

#[tokio::test]
async fn exactly_the_unroutable_messages_in_flight_fail() {
    let publisher = Publisher::new(broker().await, letters());
    let key = |id: usize| {
        if id.is_multiple_of(3) {
            "parcel.sent"
        } else {
            "letter.sent"
        }
    };
    let publishing = (0..1_000).map(|id| publisher.publish(message(key(id), id)));
    for (id, outcome) in soon("publishing", join_all(publishing))
        .await
        .into_iter()
        .enumerate()
    {
        let unroutable = matches!(outcome, Err(PublishError::Unroutable));
        assert_eq!(unroutable, id.is_multiple_of(3), "{id}: {outcome:?}");
        assert!(unroutable || outcome.is_ok(), "{id}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_message_that_the_protocol_cannot_carry_is_refused_without_failing_others() {
    let publisher = Publisher::new(broker().await, letters());
    let long = "x".repeat(256);
    let (bad, good) = soon("publishing", async {
        tokio::join!(
            publisher.publish(message(&long, 1)),
            publisher.publish(message("letter.sent", 2))
        )
    })
    .await;
    assert!(matches!(bad, Err(PublishError::Refused)), "{bad:?}");
    good.unwrap();
}

#[tokio::test]
async fn publishing_works_again_after_a_publication_to_a_missing_exchange() {
    let broker = broker().await;
    let publisher = Publisher::new(broker.clone(), letters());
    let mut elsewhere = message("letter.sent", 1);
    elsewhere.exchange = "nowhere".into();
    let outcome = soon("publishing", publisher.publish(elsewhere)).await;
    assert!(
        matches!(outcome, Err(PublishError::Unavailable(_))),
        "{outcome:?}"
    );
    soon("publishing", publisher.publish(message("letter.sent", 2)))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_deleted_binding_is_declared_again_after_one_returned_message() {
    let node = PrivateBroker::shared().await;
    let url = node.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let publisher = Publisher::new(Broker::connect(&url, "test").unwrap(), letters());
    let publish = |id: usize| publisher.publish(message("letter.sent", id));
    soon("publishing", publish(1)).await.unwrap();
    let path = format!("bindings/{vhost}/e/events/q/letters/letter.*");
    node.management("DELETE", &path, &Value::Null)
        .await
        .unwrap();
    let returned = soon("publishing", publish(2)).await;
    assert!(
        matches!(returned, Err(PublishError::Unroutable)),
        "{returned:?}"
    );
    soon("publishing", publish(2)).await.unwrap();
}

/// Publishes a message repeatedly, as production code does, until it is confirmed.
async fn publish_until_confirmed(publisher: &Publisher, id: usize) {
    let mut backoff = Backoff::default();
    while publisher.publish(message("letter.sent", id)).await.is_err() {
        backoff.pause().await;
    }
}

#[tokio::test]
async fn publishing_and_consuming_resume_after_the_broker_was_killed() {
    let node = PrivateBroker::start().await.unwrap();
    let broker = Broker::connect(&node.amqp_url(), "test").unwrap();
    let publisher = Publisher::new(broker.clone(), letters());
    let mut consumer = Consumer::new(broker.clone(), letters(), "letters".into(), 50);
    let publishing = async {
        join_all((0..200).map(|id| publish_until_confirmed(&publisher, id))).await;
        node.kill().await.unwrap();
        assert!(
            broker.check().await.is_err(),
            "the check reports a killed broker as available"
        );
        let restarting = async { node.restart().await.unwrap() };
        let more = join_all((200..400).map(|id| publish_until_confirmed(&publisher, id)));
        tokio::join!(restarting, more);
    };
    let (received, ()) = soon("the whole exchange", async {
        tokio::join!(receive(&mut consumer, 400), publishing)
    })
    .await;
    assert_eq!(received.len(), 400);
    broker.check().await.unwrap();
}

#[tokio::test]
async fn confirmed_messages_survive_a_kill_of_the_broker() {
    let node = PrivateBroker::start().await.unwrap();
    let broker = Broker::connect(&node.amqp_url(), "test").unwrap();
    let publisher = Publisher::new(broker.clone(), letters());
    let mut confirms = Vec::new();
    for id in 0..300 {
        confirms.push(publisher.send(message("letter.sent", id)).await.unwrap());
    }
    for outcome in soon("publishing", join_all(confirms)).await {
        outcome.unwrap();
    }
    node.kill().await.unwrap();
    node.restart().await.unwrap();
    let mut consumer = Consumer::new(broker, letters(), "letters".into(), 50);
    let received = receive(&mut consumer, 300).await;
    let expected: Vec<String> = (0..300).map(|id| id.to_string()).collect();
    assert_eq!(received, expected, "a message is missing or out of order");
}
