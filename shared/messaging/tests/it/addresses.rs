//! Several addresses: dead ones, lost ones, and whose turn it is.

use crate::support::{letters, message, receive, soon};
use messaging::{Broker, Consumer, Publisher};
use private_broker::PrivateBroker;
use serde_json::Value;

/// Nobody listens here.
const DEAD: &str = "amqp://guest:guest@127.0.0.1:1";

#[tokio::test]
async fn a_dead_address_does_not_hold_up_the_next_one() {
    let url = PrivateBroker::shared().await.vhost().await;
    let vhost = url.rsplit('/').next().unwrap();
    let urls = format!("{DEAD}/{vhost},{DEAD}/{vhost},{url}");
    let broker = Broker::connect(&urls, "test").unwrap();
    broker.check().await.unwrap();
    let publisher = Publisher::new(broker.clone(), letters());
    publisher.publish(message("letter.sent", 1)).await.unwrap();
    let mut consumer = Consumer::new(broker, letters(), "letters".into(), 10);
    assert_eq!(receive(&mut consumer, 1).await, ["1"]);
}

#[tokio::test]
async fn with_no_address_alive_the_error_names_each_and_no_password() {
    let urls = "amqp://me:secret@127.0.0.1:1/v,amqp://me:secret@127.0.0.1:2/v";
    let error = Broker::connect(urls, "test").unwrap().check().await;
    let error = error.unwrap_err().to_string();
    for address in ["127.0.0.1:1 as \"me\"", "127.0.0.1:2 as \"me\""] {
        assert!(error.contains(address), "{error}");
    }
    assert!(!error.contains("secret"), "{error}");
}

/// The names of the connections that a node has.
async fn connections(node: &PrivateBroker) -> Vec<String> {
    let connections = node.management("GET", "connections", &Value::Null).await;
    let connections = connections.unwrap_or_default();
    let names = connections.as_array().into_iter().flatten();
    let names = names.filter_map(|one| one["name"].as_str());
    names.map(str::to_owned).collect()
}

/// Waits until this node has a connection, and returns its name.
async fn connected(node: &PrivateBroker) -> String {
    let connected = async {
        loop {
            if let Some(name) = connections(node).await.pop() {
                return name;
            }
        }
    };
    soon("a connection", connected).await
}

#[tokio::test]
async fn the_next_node_takes_over_from_the_one_in_use() {
    let (one, two) = tokio::join!(PrivateBroker::start(), PrivateBroker::start());
    let (one, two) = (one.unwrap(), two.unwrap());
    let urls = format!("{},{}", one.amqp_url(), two.amqp_url());
    let broker = Broker::connect(&urls, "test").unwrap();
    broker.check().await.unwrap();
    let lost = connected(&one).await;
    assert!(connections(&two).await.is_empty());

    // The first node is alive, and it is the turn of the second all the same.
    let path = format!(
        "connections/{}",
        lost.replace(' ', "%20").replace('>', "%3E")
    );
    one.management("DELETE", &path, &Value::Null).await.unwrap();
    let check = async {
        while broker.check().await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("a new connection", check).await;
    connected(&two).await;

    let publisher = Publisher::new(broker.clone(), letters());
    let mut consumer = Consumer::new(broker.clone(), letters(), "letters".into(), 10);
    two.kill().await.unwrap();
    let publishing = async {
        while publisher.publish(message("letter.sent", 1)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    soon("publishing", publishing).await;
    assert_eq!(receive(&mut consumer, 1).await, ["1"]);
}
