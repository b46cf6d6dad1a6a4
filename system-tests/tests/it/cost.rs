//! What a user costs on the way into the list, counted in what the processes log.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use private_broker::PrivateBroker;
use serde_json::{Value, json};
use system_tests::client::http;
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

const USERS: usize = 1_000;
const CONNECTIONS: usize = 32;
/// The fewest users that a look-up or a transaction must serve on average while publisher and projector catch up.
const USERS_AT_ONCE: usize = 10;

/// Creations one after another, so that no two share a flush.
const ONE_BY_ONE: usize = 100;
/// Flushes for the windows of ids that uuids-service leases meanwhile.
const LEASES: usize = 10;
/// A queue that takes every message.
const PROBE: &str = "probe";

const LOOK_UP: &str = "looking up keys";

/// How often a part logged this message.
fn count(system: &System, part: Part, message: &str) -> Result<usize> {
    let log = system.log(part)?;
    Ok(log.lines().filter(|line| line.contains(message)).count())
}

#[tokio::test]
async fn users_come_into_the_list_many_at_once() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let parts = [Part::Store, Part::Uuids, Part::Api, Part::Projector];
    let all = [parts.as_slice(), &[Part::Publisher]].concat();
    let mut system = System::prepare(&all, broker, &url, "debug")?;
    for part in parts {
        system.start_part(part).await?;
        system.serves(part).await?;
    }
    let users = system.users()?;
    let prefix = unique("cost");
    let create = |number| {
        let name = format!("{prefix}-{number}");
        let users = &users;
        async move { users.created(&name).await }
    };
    let creating = stream::iter(0..USERS).map(create);
    let created: Vec<_> = creating.buffer_unordered(CONNECTIONS).try_collect().await?;
    system.start_part(Part::Publisher).await?;
    wait::until("all users are listed", || async {
        ensure!(users.list(USERS).await?.len() == created.len(), "not yet");
        Ok(())
    })
    .await?;
    for (part, message) in [
        (Part::Publisher, LOOK_UP),
        (Part::Projector, LOOK_UP),
        (Part::Projector, "applied events"),
    ] {
        let times = count(&system, part, message)?;
        ensure!(times > 0, "{part:?} logs no {message:?}");
        let bound = USERS / USERS_AT_ONCE;
        ensure!(
            times <= bound,
            "{part:?}: {message:?} {times} times, more than {bound}"
        );
    }
    system.end();
    Ok(())
}

#[tokio::test]
async fn a_creation_costs_two_flushes_and_one_message() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let parts = [Part::Store, Part::Uuids, Part::Api, Part::Publisher];
    let mut system = System::prepare(&parts, broker, &url, "info")?;
    for part in [Part::Store, Part::Uuids, Part::Api] {
        system.start_part(part).await?;
        system.serves(part).await?;
    }
    let before = flushes(&system).await?;
    for _ in 0..ONE_BY_ONE {
        system.users()?.created(&unique("cost")).await?;
    }
    let after = flushes(&system).await?;
    let expected = 2 * ONE_BY_ONE..=2 * ONE_BY_ONE + LEASES;
    ensure!(
        expected.contains(&(after - before)),
        "{} flushes",
        after - before
    );

    let exchange = json!({"type": "topic", "durable": true});
    let (durable, all) = (json!({"durable": true}), json!({"routing_key": "#"}));
    let binding = format!("e/users/q/{PROBE}");
    for (method, kind, rest, body) in [
        ("PUT", "exchanges", "users", exchange),
        ("PUT", "queues", PROBE, durable),
        ("POST", "bindings", &binding, all),
    ] {
        system.management(method, kind, rest, &body).await?;
    }
    system.start_part(Part::Publisher).await?;
    system.users()?.created(&unique("last")).await?;
    wait::until("the last user's message", || async {
        let messages = system.messages(PROBE).await?;
        ensure!(messages.len() > ONE_BY_ONE, "not yet");
        Ok(())
    })
    .await?;
    let messages = system.messages(PROBE).await?;
    let ids = messages
        .iter()
        .map(|message| &message["properties"]["message_id"]);
    let mut ids: Vec<String> = ids.map(Value::to_string).collect();
    ensure!(ids.len() == ONE_BY_ONE + 1, "{} messages", ids.len());
    ids.sort();
    ids.dedup();
    ensure!(ids.len() == ONE_BY_ONE + 1, "a message was sent twice");
    system.end();
    Ok(())
}

/// How often the store has flushed a transaction.
async fn flushes(system: &System) -> Result<usize> {
    let store = system
        .address(Part::Store)
        .context("the store is started")?;
    let page = http()?.get(format!("http://{store}/metrics")).send();
    let page = page.await?.error_for_status()?.text().await?;
    let count = page
        .lines()
        .find_map(|line| line.strip_prefix("eventstore_writer_flush_duration_seconds_count "));
    Ok(count.context("the store counts flushes")?.trim().parse()?)
}
