//! Garbage on the exchange and on the queues goes to the dead-letter queue with a reason and blocks nobody.

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use system_tests::{System, unique, wait};

const EXCHANGE: &str = "users";
const QUEUES: [&str; 4] = [
    "users.directory.g1.0",
    "users.directory.g1.1",
    "users.directory.g1.2",
    "users.directory.g1.3",
];

/// The properties of a message about user 17, who does not exist, with some headers replaced by wrong ones.
fn properties(wrong: &Value) -> Value {
    let mut headers = json!({
        "cloudEvents:specversion": "1.0", "cloudEvents:type": "user.created.v1", "cloudEvents:source": "users-service",
        "cloudEvents:subject": "17", "cloudEvents:sequence": "0", "cloudEvents:partitionkey": "17",
    });
    for (name, value) in wrong.as_object().into_iter().flatten() {
        headers[format!("cloudEvents:{name}")] = value.clone();
    }
    json!({"headers": headers, "content_type": "application/json", "delivery_mode": 2, "message_id": uuid::Uuid::new_v4()})
}

/// Messages that our publisher never sends: random bytes, and forgeries that are more and more like real messages.
fn garbage() -> Vec<(Value, String)> {
    let body = json!({"id": "17"}).to_string();
    let key = uuid::Uuid::new_v4().simple().to_string();
    let sealed = json!({"id": "17", "key": key, "sealed": {"username": "AAAA", "given_name": "AAAA", "family_name": "AAAA"}});
    let as_headers = |wrong: Value| (properties(&wrong), body.clone());
    let as_body = |body: &str| (properties(&json!({})), body.to_owned());
    let mut no_id = properties(&json!({}));
    no_id["message_id"] = json!("no uuid");
    vec![
        (json!({}), String::new()),
        (json!({}), "not json".to_owned()),
        (json!({}), "{}".to_owned()),
        (no_id, sealed.to_string()),
        as_body("\u{0}\u{1}\u{2}"),
        as_body(&"[".repeat(100_000)),
        as_body(&json!({"id": 17, "sealed": "no"}).to_string()),
        as_body(&json!({"id": "18446744073709551615"}).to_string()),
        as_body(&body),
        as_body(&sealed.to_string()),
        as_headers(json!({"sequence": "minus one"})),
        as_headers(json!({"sequence": "-1"})),
        as_headers(json!({"partitionkey": "18"})),
        as_headers(json!({"subject": {"a": [1, 2]}, "type": 7})),
        as_headers(json!({"type": "user.promoted.v9"})),
        as_headers(json!({"type": "user.fenced.v1", "sequence": "7"})),
        as_headers(json!({"type": "user.patched.v1", "sequence": "9223372036854775807"})),
    ]
}

/// The messages of all dead-letter queues.
async fn dead(system: &System) -> Result<Vec<Value>> {
    let mut dead = Vec::new();
    for queue in QUEUES {
        dead.extend(system.messages(&format!("{queue}.dead")).await?);
    }
    Ok(dead)
}

#[tokio::test]
async fn garbage_goes_to_the_dead_letter_queue_and_real_messages_are_applied() -> Result<()> {
    let system = System::start().await?;
    let users = system.users()?;
    let mut expected = vec![users.created(&unique("before")).await?];
    let mut sent = 0;
    for (properties, payload) in garbage() {
        let message = (properties, payload.as_str());
        system
            .publish(EXCHANGE, "user.created.v1", message.clone())
            .await?;
        sent += 1;
        for queue in QUEUES {
            system
                .publish("amq.default", queue, message.clone())
                .await?;
            sent += 1;
        }
        expected.push(users.created(&unique("between")).await?);
    }
    let dead = wait::until("all garbage is in the dead-letter queues", || async {
        let dead = dead(&system).await?;
        ensure!(dead.len() == sent, "{} of {sent}", dead.len());
        Ok(dead)
    })
    .await?;
    for message in &dead {
        let reason = message["properties"]["headers"]["reason"].as_str();
        ensure!(reason.is_some_and(|reason| !reason.is_empty()), "{message}");
    }
    users.until_listed(&expected).await?;
    system.ready().await
}
