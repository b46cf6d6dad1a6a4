//! Ids over RabbitMQ.

use std::{sync::Arc, time::Duration};

use messaging::{Broker, RpcClient};
use private_broker::{PrivateBroker, as_account};
use serde_json::{Value, json};

use crate::support::{
    ManualClock, SOME_DAY_MS, Store, TestApp, millisecond, numbers, spawn_with_broker, until,
};

const WITHIN: Duration = Duration::from_secs(5);

async fn ask(client: &RpcClient, request: &str) -> Option<Value> {
    let reply = client
        .call(request.as_bytes().to_vec(), WITHIN)
        .await
        .ok()?;
    Some(serde_json::from_slice(&reply).unwrap())
}

async fn spawn(store: &Store) -> (TestApp, RpcClient) {
    spawn_at(store, &ManualClock::at(SOME_DAY_MS)).await
}

async fn spawn_at(store: &Store, clock: &Arc<ManualClock>) -> (TestApp, RpcClient) {
    let amqp_url = PrivateBroker::shared().await.vhost().await;
    let server = as_account(&amqp_url, "uuids-service");
    let app = spawn_with_broker(&store.url(), &server, clock);
    app.leased().await;
    app.dependency("broker", "up").await;
    let client = as_account(&amqp_url, "users-command-api");
    let client = RpcClient::new(Broker::connect(&client, "test").unwrap(), "uuids");
    until("the queue is served", || ask(&client, r#"{"count":1}"#)).await;
    (app, client)
}

#[tokio::test]
async fn ids_are_issued_over_the_broker_too() {
    let store = Store::start().await;
    let (app, client) = spawn(&store).await;
    let over_http = app.ids("").await[0];
    let over_the_broker = numbers(&ask(&client, r#"{"count":1000}"#).await.unwrap());
    assert_eq!(over_the_broker.len(), 1_000);
    assert!(over_the_broker[0] > over_http);

    let above = (SOME_DAY_MS + 1_900) << 22;
    let request = json!({"count": 1, "after": above.to_string()}).to_string();
    let ids = numbers(&ask(&client, &request).await.unwrap());
    assert!(ids[0] > above);
    let others = numbers(&ask(&client, r#"{"count":1}"#).await.unwrap());
    assert_eq!(millisecond(others[0]), SOME_DAY_MS, "other ids do not move");

    let most = numbers(&ask(&client, r#"{"count":10000}"#).await.unwrap());
    assert_eq!(most.len(), 10_000);
    assert!(most[0] > others[0]);
    assert_eq!(app.get("/_readyz").await.status(), 200);
}

#[tokio::test]
async fn a_request_that_cannot_be_served_is_answered_with_the_reason() {
    let store = Store::start().await;
    let (_app, client) = spawn(&store).await;
    for request in [
        "",
        "garbage",
        "[]",
        "{}",
        r#"{"count":"1"}"#,
        r#"{"count":1,"amount":2}"#,
        r#"{"count":0}"#,
        r#"{"count":-1}"#,
        r#"{"count":10001}"#,
        r#"{"count":1,"after":"abc"}"#,
        r#"{"count":1,"after":"9223372036854775808"}"#,
    ] {
        let reply = ask(&client, request).await.unwrap();
        assert_eq!(reply["error"]["status"], 422, "{request}");
        assert!(reply["error"]["message"].is_string(), "{request}");
    }
    for far in [(SOME_DAY_MS + 2_001) << 22, i64::MAX.unsigned_abs()] {
        let request = json!({"count": 1, "after": far.to_string()}).to_string();
        let reply = ask(&client, &request).await.unwrap();
        assert_eq!(reply["error"]["status"], 422, "{reply}");
        assert_eq!(reply["error"]["field"], "after", "{reply}");
    }
}

#[tokio::test]
async fn a_clock_that_stepped_back_is_reported_over_the_broker_too() {
    let store = Store::start().await;
    let clock = ManualClock::at(SOME_DAY_MS);
    let (_app, client) = spawn_at(&store, &clock).await;
    clock.set(SOME_DAY_MS - 9_500);
    let reply = ask(&client, r#"{"count":1}"#).await.unwrap();
    assert_eq!(reply["error"]["status"], 503);
    assert_eq!(reply["error"]["retry_after"], 9);
}
