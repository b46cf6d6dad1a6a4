//! A cluster of three RabbitMQ nodes: `kill -9` of the leader of each queue in turn, while users are created over HTTP and over the
//! queue. Every acknowledged user is in the store and in the read model exactly once.
//!
//! `SYSTEM_TESTS_CLUSTER_ROUNDS` is how often each queue loses its leader. By default two queues lose it once.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use system_tests::audit::{audit, audit_finds_a_planted_loss};
use system_tests::load::{Load, Outcome};
use system_tests::system::Node;
use system_tests::{Part, System, Users, wait};

/// The number of users created during each kill, over HTTP and as many over the queue, each at 25 a second.
const USERS: usize = 100;
const PER_SECOND: u32 = 25;
const NODES: usize = 3;
/// The queue of commands, and those of the read model.
const QUEUES: [&str; 5] = [
    "users",
    "users.directory.g1.0",
    "users.directory.g1.1",
    "users.directory.g1.2",
    "users.directory.g1.3",
];

/// The queues whose leaders are killed, in this order.
fn victims() -> Vec<&'static str> {
    let rounds = std::env::var("SYSTEM_TESTS_CLUSTER_ROUNDS").ok();
    match rounds.and_then(|rounds| rounds.parse().ok()) {
        Some(rounds) => QUEUES.repeat(rounds),
        None => QUEUES[..2].to_vec(),
    }
}

/// A system on three nodes, with a replica of each queue on every node.
async fn clustered() -> Result<(System, String)> {
    let nodes = PrivateBroker::cluster(NODES).await?;
    let url = nodes[0].vhost().await;
    let vhost = url.rsplit('/').next().context("a vhost")?.to_owned();
    let urls: Vec<_> = nodes.iter().map(|node| node.vhost_url(&vhost)).collect();
    let broker = Node::Cluster(nodes);
    let mut system = System::prepare(&Part::ROLES, broker, &urls.join(","), "info")?;
    system.set(Part::Api, "COMMANDS_QUEUE", "quorum")?;
    for part in Part::ROLES {
        system.start_part(part).await?;
    }
    system.ready().await?;
    for queue in QUEUES {
        until_replicated(&system, &vhost, queue).await?;
    }
    Ok((system, vhost))
}

/// The queue as a node of the cluster sees it.
async fn queue(node: &PrivateBroker, vhost: &str, name: &str) -> Result<Value> {
    let path = format!("queues/{vhost}/{name}");
    node.management("GET", &path, &Value::Null).await
}

async fn until_replicated(system: &System, vhost: &str, name: &str) -> Result<()> {
    wait::until(&format!("each node has a replica of {name}"), || async {
        let queue = queue(&system.broker, vhost, name).await?;
        for list in ["members", "online"] {
            let count = queue[list].as_array().map_or(0, Vec::len);
            ensure!(count == NODES, "{list}: {}", queue[list]);
        }
        Ok(())
    })
    .await
}

/// The node that leads the queue, and another one.
async fn leader<'a>(
    system: &'a System,
    vhost: &str,
    name: &str,
) -> Result<(&'a PrivateBroker, &'a PrivateBroker)> {
    let nodes = system.broker.nodes();
    let leader = queue(&nodes[0], vhost, name).await?["leader"].clone();
    let found = nodes.iter().find(|node| leader == node.name());
    let leader = found.with_context(|| format!("{name} has no leader: {leader}"))?;
    let other = nodes.iter().find(|node| node.name() != leader.name());
    Ok((leader, other.context("another node")?))
}

/// Kills the leader of the queue in the middle of a load, waits for another one, and brings the node back.
async fn survives(system: &System, users: &Users, vhost: &str, name: &str) -> Result<Outcome> {
    let direct = Load::begin(users, USERS, PER_SECOND);
    let deferred = Load::begin_deferred(users, USERS, PER_SECOND);
    direct.acknowledged(USERS / 4).await?;
    let (killed, other) = leader(system, vhost, name).await?;
    killed.kill().await?;
    wait::until(&format!("{name} has another leader"), || async {
        let leader = queue(other, vhost, name).await?["leader"].clone();
        let living = system.broker.nodes().iter();
        let mut living = living.filter(|node| node.name() != killed.name());
        ensure!(living.any(|node| leader == node.name()), "{leader}");
        Ok(())
    })
    .await?;
    direct.more(USERS / 4).await;
    killed.restart().await?;
    let mut outcome = direct.finished().await?;
    let through_the_queue = deferred.finished().await?;
    eprintln!(
        "{name}: {} was killed; acknowledged: {} over HTTP, {} over the queue; refused: {}",
        killed.name(),
        outcome.acknowledged.len(),
        through_the_queue.acknowledged.len(),
        outcome.failures.len() + through_the_queue.failures.len(),
    );
    outcome.acknowledged.extend(through_the_queue.acknowledged);
    outcome.failures.extend(through_the_queue.failures);
    for queue in QUEUES {
        until_replicated(system, vhost, queue).await?;
    }
    Ok(outcome)
}

#[tokio::test]
async fn a_cluster_that_loses_the_leader_of_each_queue_in_turn_loses_no_user() -> Result<()> {
    let (system, vhost) = clustered().await?;
    let (users, store) = (system.users()?, system.store()?);
    let mut acknowledged = Vec::new();
    for name in victims() {
        let outcome = survives(&system, &users, &vhost, name).await?;
        ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
        acknowledged.extend(outcome.acknowledged);
        wait::until("nothing acknowledged is missing", || async {
            audit(&acknowledged, &users, &store).await?.none()
        })
        .await?;
    }
    eprintln!(
        "{} users acknowledged, each stored and listed once",
        acknowledged.len()
    );
    ensure!(acknowledged.len() == 2 * USERS * victims().len());
    // The control: a user that does not exist is found missing.
    audit_finds_a_planted_loss(&acknowledged, &users, &store).await?;
    system.ready().await
}
