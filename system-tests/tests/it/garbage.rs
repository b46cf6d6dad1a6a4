//! Garbage on the exchange and on the queues goes to the dead queue with a reason, and stops nobody.

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

/// Messages that no publisher of ours sends.
fn garbage() -> Vec<(Value, String)> {
    let headers = json!({
        "cloudEvents:specversion": "1.0", "cloudEvents:type": "user.created.v1", "cloudEvents:source": "/users",
        "cloudEvents:subject": "17", "cloudEvents:sequence": "0", "cloudEvents:partitionkey": "17",
    });
    let typed = json!({"headers": headers, "content_type": "application/json", "message_id": "no uuid", "delivery_mode": 2});
    let mut no_revision = typed.clone();
    no_revision["headers"]["cloudEvents:sequence"] = json!("minus one");
    let mut unknown_type = typed.clone();
    unknown_type["headers"]["cloudEvents:type"] = json!("user.promoted.v9");
    let mut nested = typed.clone();
    nested["headers"]["cloudEvents:subject"] = json!({"a": [1, 2]});
    vec![
        (json!({}), String::new()),
        (json!({}), "not json".to_owned()),
        (json!({}), "{}".to_owned()),
        (typed.clone(), "\u{0}\u{1}\u{2}".to_owned()),
        (typed, json!({"id": 17, "sealed": "no"}).to_string()),
        (no_revision, "{}".to_owned()),
        (unknown_type, "{}".to_owned()),
        (nested, "{}".to_owned()),
    ]
}

/// The dead messages of all queues.
async fn dead(system: &System) -> Result<Vec<Value>> {
    let mut dead = Vec::new();
    for queue in QUEUES {
        dead.extend(system.messages(&format!("{queue}.dead")).await?);
    }
    Ok(dead)
}

#[tokio::test]
async fn garbage_is_put_aside_with_a_reason_and_the_others_go_on() -> Result<()> {
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
    let dead = wait::until("all garbage is in the dead queues", || async {
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
