//! `kill -9` of each part while users are created. Every user that was answered 201 is in the store and in the read model
//! exactly once, after only that part was restarted.
//!
//! `SYSTEM_TESTS_KILLS` is the number of kills of each part; the default is 1.

use anyhow::{Result, ensure};
use private_broker::PrivateBroker;
use serde_json::json;
use system_tests::audit::{audit, audit_finds_a_planted_loss};
use system_tests::load::{Load, Outcome};
use system_tests::system::Node;
use system_tests::{Part, System, unique, wait};

/// The number of users created during each kill, at 50 per second.
const USERS: usize = 200;

/// The process to kill: one of ours, or the broker.
#[derive(Debug, Clone, Copy)]
enum Victim {
    Part(Part),
    Broker,
}

impl Victim {
    async fn kill(self, system: &mut System) -> Result<()> {
        match self {
            Self::Part(part) => system.kill(part),
            Self::Broker => system.broker.kill().await,
        }
    }

    async fn start(self, system: &mut System) -> Result<()> {
        match self {
            Self::Part(part) => system.start_part(part).await,
            Self::Broker => system.broker.restart().await,
        }
    }
}

fn kills() -> usize {
    let kills = std::env::var("SYSTEM_TESTS_KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(1)
}

/// Kills the victim in the middle of a load, restarts it while the load lasts, and waits until no acknowledged user is
/// missing. Returns the outcome of all POSTs.
async fn survives(victim: Victim) -> Result<Outcome> {
    let broker = match victim {
        Victim::Broker => Node::own().await?,
        Victim::Part(_) => Node::Shared(PrivateBroker::shared().await),
    };
    let mut system = System::of(&Part::ROLES, broker, "info").await?;
    let (users, store) = (system.users()?, system.store()?);
    let mut all = Outcome::default();
    for _ in 0..kills() {
        let load = Load::begin(&users, USERS, 50);
        load.acknowledged(USERS / 4).await?;
        victim.kill(&mut system).await?;
        load.more(USERS / 4).await;
        victim.start(&mut system).await?;
        let outcome = load.finished().await?;
        all.acknowledged.extend(outcome.acknowledged);
        all.failures.extend(outcome.failures);
        system.ready().await?;
        wait::until("nothing acknowledged is missing", || async {
            audit(&all.acknowledged, &users, &store).await?.none()
        })
        .await?;
    }
    // A failed POST may or may not have taken effect, but it must not block later ones.
    users.created(&unique("after")).await?;
    Ok(all)
}

/// The victim is not in the path of a command, so no command may fail while it is down.
async fn survives_unnoticed(victim: Victim) -> Result<()> {
    let outcome = survives(victim).await?;
    ensure!(outcome.failures.is_empty(), "{:?}", outcome.failures);
    ensure!(outcome.acknowledged.len() == USERS * kills());
    Ok(())
}

#[tokio::test]
async fn a_killed_store_loses_nothing() -> Result<()> {
    survives(Victim::Part(Part::Store)).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_id_service_loses_nothing() -> Result<()> {
    survives(Victim::Part(Part::Uuids)).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_api_loses_nothing() -> Result<()> {
    let outcome = survives(Victim::Part(Part::Api)).await?;
    ensure!(!outcome.failures.is_empty(), "the API was never down");
    Ok(())
}

#[tokio::test]
async fn a_killed_publisher_loses_nothing_and_commands_do_not_notice() -> Result<()> {
    survives_unnoticed(Victim::Part(Part::Publisher)).await
}

#[tokio::test]
async fn a_killed_projector_loses_nothing_and_commands_do_not_notice() -> Result<()> {
    survives_unnoticed(Victim::Part(Part::Projector)).await
}

#[tokio::test]
async fn a_killed_broker_loses_nothing_and_commands_do_not_notice() -> Result<()> {
    survives_unnoticed(Victim::Broker).await
}

/// The control of the tests above: their loss counter finds a loss.
#[tokio::test]
async fn an_acknowledged_user_that_does_not_exist_is_counted_as_lost() -> Result<()> {
    let system = System::start().await?;
    let (users, store) = (system.users()?, system.store()?);
    let real = users.created(&unique("real")).await?;
    let mut altered = real.clone();
    altered["given_name"] = json!("somebody else");
    wait::until("the real user is listed", || async {
        audit(std::slice::from_ref(&real), &users, &store)
            .await?
            .none()
    })
    .await?;
    audit_finds_a_planted_loss(std::slice::from_ref(&real), &users, &store).await?;
    let found = audit(&[altered], &users, &store).await?;
    ensure!(
        found.not_in_store.len() == 1 && found.not_in_list.len() == 1,
        "{found:?}"
    );
    Ok(())
}
