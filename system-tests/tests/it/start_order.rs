//! Started in any order, the services become ready by themselves, and say what is missing until then.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use std::net::SocketAddr;
use system_tests::proxy::Proxy;
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

const SERVICES: [Part; 5] = [
    Part::Api,
    Part::Projector,
    Part::Publisher,
    Part::Eraser,
    Part::Uuids,
];

/// How often the broker is asked in vain before it comes: until then every service has met its absence, and waits.
const VAIN_ATTEMPTS: usize = 40;

/// All services started, with neither store nor broker there.
async fn alone() -> Result<(System, Proxy)> {
    let broker = PrivateBroker::shared().await;
    let url = broker.vhost().await;
    let (login, place) = url.split_once('@').context("a login")?;
    let (address, vhost) = place.split_once('/').context("a vhost")?;
    let proxy = Proxy::closed(address.parse::<SocketAddr>()?).await?;
    let url = format!("{login}@{}/{vhost}", proxy.address());
    let mut system = System::prepare(&Part::ROLES, Node::Shared(broker), &url, "info")?;
    for part in SERVICES {
        system.start_part(part).await?;
    }
    Ok((system, proxy))
}

fn is_up(readiness: &Value, dependency: &str) -> Result<bool> {
    let state = readiness["dependencies"][dependency].as_str();
    let state = state.with_context(|| format!("{dependency} in {readiness}"))?;
    ensure!(state == "up" || state.starts_with("down: "), "{state}");
    Ok(state == "up")
}

/// Waits until these parts are not ready and their readiness says so of exactly these dependencies.
async fn missing(system: &System, parts: &[Part], missing: &[&str], there: &[&str]) -> Result<()> {
    for part in parts {
        wait::until(&format!("{part:?} misses {missing:?}"), || async {
            let (status, readiness) = system.readiness(*part).await?;
            ensure!(
                status == 503 && readiness["status"] == "not ready",
                "{status} {readiness}"
            );
            for dependency in missing {
                ensure!(!is_up(&readiness, dependency)?, "{readiness}");
            }
            for dependency in there {
                ensure!(is_up(&readiness, dependency)?, "{readiness}");
            }
            Ok(())
        })
        .await?;
    }
    Ok(())
}

async fn works(system: &System) -> Result<()> {
    system.ready().await?;
    let users = system.users()?;
    let user = users.created(&unique("order")).await?;
    users.until_listed(&[user]).await
}

#[tokio::test]
async fn the_services_wait_for_the_broker_and_then_for_the_store() -> Result<()> {
    let (mut system, proxy) = alone().await?;
    let users = system.users()?;
    missing(&system, &SERVICES, &["event store"], &[]).await?;
    missing(
        &system,
        &[Part::Publisher, Part::Projector],
        &["broker"],
        &[],
    )
    .await?;
    proxy.attempts(VAIN_ATTEMPTS).await?;
    proxy.open();
    missing(
        &system,
        &[Part::Publisher, Part::Projector],
        &["event store"],
        &["broker"],
    )
    .await?;
    let refused = users
        .create(&system_tests::client::user("early"))
        .await?
        .expect(503)?;
    ensure!(refused.content_type.starts_with("application/problem+json"));
    system.start_part(Part::Store).await?;
    works(&system).await
}

#[tokio::test]
async fn the_services_wait_for_the_store_and_then_for_the_broker() -> Result<()> {
    let (mut system, proxy) = alone().await?;
    missing(&system, &SERVICES, &["event store"], &[]).await?;
    proxy.attempts(VAIN_ATTEMPTS).await?;
    system.start_part(Part::Store).await?;
    missing(
        &system,
        &[Part::Publisher, Part::Projector],
        &["broker"],
        &["event store"],
    )
    .await?;
    proxy.open();
    works(&system).await
}

#[tokio::test]
async fn the_commands_wait_for_the_ids() -> Result<()> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let mut system = System::prepare(&Part::ROLES, broker, &url, "info")?;
    for part in Part::ROLES.into_iter().filter(|part| *part != Part::Uuids) {
        system.start_part(part).await?;
    }
    missing(&system, &[Part::Api], &["ids"], &["event store"]).await?;
    system.start_part(Part::Uuids).await?;
    works(&system).await
}

#[tokio::test]
async fn a_cut_line_to_the_broker_mends_itself() -> Result<()> {
    let (mut system, proxy) = alone().await?;
    proxy.open();
    system.start_part(Part::Store).await?;
    works(&system).await?;
    let users = system.users()?;
    proxy.close();
    missing(
        &system,
        &[Part::Publisher, Part::Projector],
        &["broker"],
        &["event store"],
    )
    .await?;
    let meanwhile = users.created(&unique("meanwhile")).await?;
    proxy.open();
    system.ready().await?;
    wait::until("the user is listed", || async {
        let listed = users.list(10).await?;
        ensure!(listed.contains(&meanwhile), "{listed:?}");
        Ok(())
    })
    .await
}
