//! RPC: replies, missing servers and failures of the broker.

use crate::support::{broker, soon};
use futures::future::join_all;
use messaging::{Broker, RpcClient, RpcError, serve_rpc};
use private_broker::PrivateBroker;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};

const LONG: Duration = Duration::from_secs(10);

fn shout_server(broker: &Broker) -> DropGuard {
    let shutdown = CancellationToken::new();
    let shout = |request: Vec<u8>| async move { request.to_ascii_uppercase() };
    tokio::spawn(serve_rpc(broker.clone(), "shout", shout, shutdown.clone()));
    shutdown.drop_guard()
}

/// Repeats the request until a server replies.
async fn reply(client: &RpcClient, request: &str) -> Vec<u8> {
    let replied = async {
        loop {
            match client.call(request.into(), LONG).await {
                Ok(reply) => return reply,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    soon("a reply", replied).await
}

#[tokio::test]
async fn a_request_is_answered() {
    let broker = broker().await;
    let _server = shout_server(&broker);
    assert_eq!(
        reply(&RpcClient::new(broker, "shout"), "hello").await,
        b"HELLO"
    );
}

#[tokio::test]
async fn each_of_many_callers_gets_its_own_reply() {
    let broker = broker().await;
    let _server = shout_server(&broker);
    let client = RpcClient::new(broker, "shout");
    reply(&client, "hello").await;
    let calls = (0..500).map(|n| client.call(format!("n{n}").into_bytes(), LONG));
    for (n, reply) in join_all(calls).await.into_iter().enumerate() {
        assert_eq!(reply.unwrap(), format!("N{n}").into_bytes());
    }
}

#[tokio::test]
async fn a_request_without_a_server_fails_at_once() {
    let client = RpcClient::new(broker().await, "nobody");
    let outcome = soon("the refusal", client.call(vec![], Duration::from_hours(1))).await;
    assert!(matches!(outcome, Err(RpcError::Unroutable)), "{outcome:?}");
}

#[tokio::test]
async fn connecting_continues_after_its_callers_stop_waiting() {
    let client = RpcClient::new(broker().await, "nobody");
    let connected = async {
        loop {
            let outcome = client.call(vec![], Duration::from_millis(3)).await;
            if matches!(outcome, Err(RpcError::Unroutable)) {
                return;
            }
        }
    };
    soon("a connection", connected).await;
}

#[tokio::test]
async fn requests_fail_at_once_after_the_server_stops() {
    let broker = broker().await;
    let server = shout_server(&broker);
    let client = RpcClient::new(broker, "shout");
    reply(&client, "hello").await;
    drop(server);
    let refused = async {
        while !matches!(client.call(vec![], LONG).await, Err(RpcError::Unroutable)) {
            tokio::task::yield_now().await;
        }
    };
    soon("the refusal", refused).await;
}

#[tokio::test]
async fn a_missing_reply_is_a_timeout() {
    let broker = broker().await;
    let shutdown = CancellationToken::new();
    let never = |_| std::future::pending::<Vec<u8>>();
    tokio::spawn(serve_rpc(broker.clone(), "never", never, shutdown.clone()));
    let _server = shutdown.drop_guard();
    let client = RpcClient::new(broker, "never");
    let timed_out = async {
        loop {
            let outcome = client.call(vec![], Duration::from_millis(200)).await;
            if matches!(outcome, Err(RpcError::TimedOut)) {
                return;
            }
        }
    };
    soon("the timeout", timed_out).await;
}

#[tokio::test]
async fn calls_fail_while_the_broker_is_down_and_succeed_when_it_is_back() {
    let node = PrivateBroker::start().await.unwrap();
    node.kill().await.unwrap();
    let broker = Broker::connect(&node.amqp_url(), "test").unwrap();
    let _server = shout_server(&broker);
    let client = RpcClient::new(broker, "shout");
    let outcome = client.call("hello".into(), LONG).await;
    assert!(
        matches!(outcome, Err(RpcError::Unavailable(_))),
        "{outcome:?}"
    );
    node.restart().await.unwrap();
    assert_eq!(reply(&client, "hello").await, b"HELLO");
    node.kill().await.unwrap();
    let outcome = client.call("hello".into(), LONG).await;
    assert!(
        matches!(outcome, Err(RpcError::Unavailable(_))),
        "{outcome:?}"
    );
    node.restart().await.unwrap();
    assert_eq!(reply(&client, "again").await, b"AGAIN");
}
