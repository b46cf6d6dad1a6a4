//! Publisher and projector end like by `kill -9` at places of their code that random kills hardly hit, and two of each take turns.

use super::rebuilds::BUILDING;
use super::{PROGRAM, set_places};
use aho_corasick::AhoCorasick;
use anyhow::{Context as _, Result, ensure};
use private_broker::PrivateBroker;
use std::collections::{BTreeMap, BTreeSet};
use system_tests::Part;
use system_tests::flow::Flow;
use system_tests::process::{Process, executable};
use system_tests::system::{Node, System};

/// A place in the code, and how often it is passed at most before the process ends there: once a message, or once a batch.
type Place = (&'static str, u32);

/// Before a message is sent; when it is sent and not confirmed; when it is confirmed and the checkpoint does not say so.
const PUBLISHER: [Place; 3] = [
    ("before-publish", 300),
    ("published-not-confirmed", 4),
    ("confirmed-not-saved", 300),
];
/// After a batch was received; between the statements of a transaction and its commit; between commit and acknowledgement.
const PROJECTOR: [Place; 3] = [
    ("batch-received", 4),
    ("statements-not-committed", 4),
    ("committed-not-acknowledged", 4),
];
/// A standby takes over after half a second instead of ten.
const QUICK: &str = "quick-publisher=return";

fn kills() -> usize {
    let kills = std::env::var("SYSTEM_TESTS_FLOW_KILLS").ok();
    kills.and_then(|kills| kills.parse().ok()).unwrap_or(3)
}

/// The processes of publisher and projector, which end at failpoints from their next start on.
fn victims(system: &mut System) -> Result<[&mut Process; 2]> {
    let mut processes: BTreeMap<_, _> = system.processes().collect();
    let mut victim = |part| -> Result<_> {
        let process: &mut Process = processes.remove(&part).context("a part")?;
        set_places(process, QUICK)?;
        Ok(process)
    };
    Ok([victim(Part::Publisher)?, victim(Part::Projector)?])
}

/// Ends the process at each place in turn, so many times each, and starts it for good.
async fn die(process: &mut Process, places: &[Place], times: usize) -> Result<()> {
    process.kill()?;
    for (place, most) in places.repeat(times) {
        let passes = rand::random_range(1..=most);
        let here = format!("{QUICK};{place}={passes}*off->return");
        set_places(process, &here)?;
        process.start()?;
        let end = process.until_ended().await?;
        ensure!(end.starts_with("signal: 6"), "{place}: {end}");
    }
    set_places(process, QUICK)?;
    process.start()?;
    process.address().await?;
    Ok(())
}

#[tokio::test]
async fn publisher_and_projector_may_die_at_every_place_of_their_code() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    // In turn: a projector beside a publisher that is always dying has nothing to do.
    flow.under_traffic(async |system, _| {
        let [publisher, _] = victims(system)?;
        die(publisher, &PUBLISHER, kills()).await
    })
    .await?;
    flow.under_traffic(async |system, _| {
        let [_, projector] = victims(system)?;
        die(projector, &PROJECTOR, kills()).await
    })
    .await?;
    let what = format!("{} kills at each of {PUBLISHER:?}, {PROJECTOR:?}", kills());
    flow.verdict(&what).await
}

#[tokio::test]
async fn two_publishers_and_two_projectors_at_once_may_be_killed_in_turn() -> Result<()> {
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    flow.under_traffic(async |system, traffic| {
        let [publisher, projector] = victims(system)?;
        let mut twins = [publisher.twin()?, projector.twin()?];
        let mut pairs = [publisher, projector];
        for pair in &mut pairs {
            pair.kill()?;
            pair.start()?;
        }
        for _ in 0..kills() {
            for twin in &mut twins {
                twin.start()?;
                twin.address().await?;
            }
            traffic.more(30).await?;
            for one in &mut pairs {
                one.kill()?;
            }
            traffic.more(30).await?;
            for one in &mut pairs {
                one.start()?;
                one.address().await?;
            }
            traffic.more(30).await?;
            for twin in &mut twins {
                twin.kill()?;
            }
            traffic.more(30).await?;
        }
        Ok(())
    })
    .await?;
    let what = format!("{} kills of each of two publishers and projectors", kills());
    flow.verdict(&what).await
}

/// Release builds do not even compile with failpoints. This looks into the executable that all other tests start.
#[test]
fn only_the_executable_for_these_tests_has_failpoints() -> Result<()> {
    let places = [PUBLISHER, PROJECTOR].concat().into_iter();
    let places: Vec<_> = places.map(|(place, _)| place).chain(BUILDING).collect();
    let search = AhoCorasick::new(&places)?;
    for (program, expected) in [("users-service", 0), (PROGRAM, places.len())] {
        let executable = std::fs::read(executable(program)?)?;
        let found = search.find_iter(&executable);
        let found: BTreeSet<_> = found.map(|found| found.pattern()).collect();
        ensure!(found.len() == expected, "{program}: {found:?}");
    }
    Ok(())
}
