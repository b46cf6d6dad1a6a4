//! Parts of the topology are deleted under traffic.

use super::{QUEUES, waiting};
use anyhow::{Result, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use system_tests::client::id;
use system_tests::flow::Flow;
use system_tests::system::{Node, System};
use system_tests::{Part, unique, wait};

/// What is deleted while all roles run. The exchange `users.events` is not among them: with it go the bindings of other teams,
/// and a message that at least one queue takes is not sent again for those that missed it.
const PARTS: [(&str, &str); 8] = [
    ("exchanges", "users"),
    ("exchanges", "users.directory.g1"),
    ("exchanges", "users.directory.g1.dead"),
    ("queues", "users.directory.g1.1"),
    ("queues", "users.directory.g1.2.dead"),
    ("bindings", "e/users/e/users.events/%23"),
    ("bindings", READERS_BINDING),
    ("bindings", "e/users.directory.g1/q/users.directory.g1.3/1"),
];
const READERS_BINDING: &str = "e/users.events/e/users.directory.g1/%23";

async fn delete(system: &System, kind: &str, rest: &str) -> Result<()> {
    let deleted = system.management("DELETE", kind, rest, &Value::Null).await;
    deleted.map(drop)
}

#[tokio::test]
async fn a_deleted_part_of_the_topology_loses_nothing() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    for (kind, rest) in PARTS {
        flow.under_traffic(async |system, traffic| {
            delete(system, kind, rest).await?;
            traffic.more(60).await
        })
        .await?;
    }
    flow.verdict(&format!("deleted one after the other: {PARTS:?}"))
        .await
}

/// The last events of all users of this load are in the queues, and no later event shows that they are gone.
#[tokio::test]
async fn queues_deleted_with_the_last_events_of_users_lose_nothing() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    flow.under_traffic(async |system, traffic| {
        system.kill(Part::Projector)?;
        traffic.more(60).await
    })
    .await?;
    flow.published().await?;
    wait::until("the queues hold messages", || async {
        let waiting = waiting(&flow.system.broker, &flow.system.amqp_url(), &QUEUES).await?;
        ensure!(waiting > 60, "{waiting}");
        Ok(())
    })
    .await?;
    for queue in QUEUES {
        delete(&flow.system, "queues", queue).await?;
    }
    flow.system.start_part(Part::Projector).await?;
    flow.verdict("all queues of the list deleted with their messages")
        .await
}

/// The other team's queue takes every message, so the broker returns none of them to the publisher.
#[tokio::test]
async fn a_read_model_whose_binding_is_gone_misses_nothing_that_another_team_gets() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    flow.under_traffic(async |system, traffic| {
        system.kill(Part::Projector)?;
        delete(system, "bindings", READERS_BINDING).await?;
        traffic.more(60).await
    })
    .await?;
    let last = flow.system.users()?.created(&unique("last")).await?;
    flow.expect(id(&last), last.clone());
    flow.published().await?;
    flow.system.start_part(Part::Projector).await?;
    flow.verdict("the binding of the list removed, that of another team left")
        .await
}
