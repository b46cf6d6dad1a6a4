//! The services can start in any order. They become ready by themselves, and until then they report what is missing.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use serde_json::Value;
use std::net::SocketAddr;
use system_tests::client::user;
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

/// The number of failed connections to the broker before it starts. After these every service has noticed that the broker
/// is down, and waits for it.
const FAILED_ATTEMPTS: usize = 40;

/// Starts all services while store and broker are down.
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

/// The state of a part whose dependencies are partly missing.
#[derive(Debug, Clone, Copy)]
enum State {
    NotReady,
    Degraded,
}

impl State {
    fn status(self) -> (u16, &'static str) {
        match self {
            Self::NotReady => (503, "not ready"),
            Self::Degraded => (200, "degraded"),
        }
    }
}

/// Waits until the part reports this state, these missing dependencies, and these present ones.
async fn reports(
    system: &System,
    part: Part,
    state: State,
    (missing, present): (&[&str], &[&str]),
) -> Result<()> {
    wait::until(&format!("{part:?} is {state:?}"), || async {
        let (status, readiness) = system.readiness(part).await?;
        let (code, text) = state.status();
        ensure!(
            status == code && readiness["status"] == text,
            "{status} {readiness}"
        );
        for dependency in missing {
            ensure!(!is_up(&readiness, dependency)?, "{readiness}");
        }
        for dependency in present {
            ensure!(is_up(&readiness, dependency)?, "{readiness}");
        }
        Ok(())
    })
    .await
}

/// Every service runs, and both store and broker are down.
async fn everything_is_missing(system: &System) -> Result<()> {
    let store = (&["event store"][..], &[][..]);
    let both = (&["event store", "broker"][..], &[][..]);
    reports(system, Part::Api, State::NotReady, store).await?;
    reports(system, Part::Eraser, State::NotReady, store).await?;
    reports(system, Part::Uuids, State::NotReady, both).await?;
    reports(system, Part::Publisher, State::NotReady, both).await?;
    reports(system, Part::Projector, State::NotReady, both).await
}

/// Only the broker is down.
async fn the_broker_is_missing(system: &System) -> Result<()> {
    let broker = (&["broker"][..], &["event store"][..]);
    reports(system, Part::Uuids, State::Degraded, broker).await?;
    reports(system, Part::Publisher, State::NotReady, broker).await?;
    reports(system, Part::Projector, State::NotReady, broker).await
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
    everything_is_missing(&system).await?;
    proxy.attempts(FAILED_ATTEMPTS).await?;
    proxy.open();
    let store = (&["event store"][..], &["broker"][..]);
    reports(&system, Part::Uuids, State::NotReady, store).await?;
    reports(&system, Part::Publisher, State::NotReady, store).await?;
    // The first generation of a read model is built from the log.
    reports(&system, Part::Projector, State::NotReady, store).await?;
    let refused = users.create(&user("early")).await?.expect(503)?;
    ensure!(refused.content_type.starts_with("application/problem+json"));
    system.start_part(Part::Store).await?;
    works(&system).await
}

#[tokio::test]
async fn the_services_wait_for_the_store_and_then_for_the_broker() -> Result<()> {
    let (mut system, proxy) = alone().await?;
    everything_is_missing(&system).await?;
    proxy.attempts(FAILED_ATTEMPTS).await?;
    system.start_part(Part::Store).await?;
    the_broker_is_missing(&system).await?;
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
    let ids = (&["ids"][..], &["event store"][..]);
    reports(&system, Part::Api, State::Degraded, ids).await?;
    let refused = system.users()?.create(&user("early")).await?;
    refused.expect(503)?;
    system.start_part(Part::Uuids).await?;
    works(&system).await
}

#[tokio::test]
async fn services_recover_after_their_connection_to_the_broker_was_cut() -> Result<()> {
    let (mut system, proxy) = alone().await?;
    proxy.open();
    system.start_part(Part::Store).await?;
    works(&system).await?;
    let users = system.users()?;
    proxy.close();
    the_broker_is_missing(&system).await?;
    let queue = (
        &["commands over the queue"][..],
        &["event store", "ids"][..],
    );
    reports(&system, Part::Api, State::Degraded, queue).await?;
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
