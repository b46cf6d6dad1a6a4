//! The list is built anew under traffic, and the projector dies while it does this.

use super::set_places;
use anyhow::{Context as _, Result, ensure};
use private_broker::PrivateBroker;
use std::process::Stdio;
use system_tests::flow::Flow;
use system_tests::process::Process;
use system_tests::system::{Node, System};
use system_tests::traffic::Traffic;
use system_tests::{Part, wait};

/// The queues are bound, and nothing is built; everything is built, and readers do not use it; readers use it, and no message
/// was applied.
pub(super) const BUILDING: [&str; 3] = [
    "bound-not-built",
    "built-not-switched",
    "switched-not-projected",
];

/// Starts the projector again. It ends at this place, if there is one.
async fn restart<'a>(system: &'a mut System, places: &str) -> Result<&'a mut Process> {
    let projector = system.process(Part::Projector)?;
    projector.kill()?;
    set_places(projector, places)?;
    projector.start()?;
    projector.address().await?;
    Ok(projector)
}

/// An operator lets the list be built anew. The projector dies at this place, and another one goes on.
async fn rebuild(
    system: &mut System,
    traffic: &Traffic,
    (place, partitions): (&str, &str),
) -> Result<()> {
    let arguments = ["rebuild", "directory", "--partitions", partitions];
    let mut command = system.command(Part::Projector, &arguments)?;
    let projector = restart(system, &format!("{place}=return")).await?;
    let mut command = command.stdout(Stdio::null()).spawn()?;
    let end = projector.until_ended().await?;
    ensure!(end.starts_with("signal: 6"), "{place}: {end}");
    traffic.more(30).await?;
    restart(system, "").await?;
    let ended = wait::until("readers use the generation", || {
        let ended = command.try_wait();
        async move { ended?.context("it is being built") }
    });
    ensure!(ended.await?.success());
    Ok(())
}

#[tokio::test]
async fn a_projector_that_dies_while_it_builds_the_list_under_traffic_loses_nothing() -> Result<()>
{
    let mut flow = Flow::start(Node::Shared(PrivateBroker::shared().await)).await?;
    let rebuilds = BUILDING.into_iter().zip(["2", "1", "4"]);
    for (generation, (place, partitions)) in (2..).zip(rebuilds) {
        flow.under_traffic(async |system, traffic| {
            rebuild(system, traffic, (place, partitions)).await
        })
        .await?;
        flow.list_moved_to(generation).await?;
    }
    flow.under_traffic(async |_, traffic| traffic.more(60).await)
        .await?;
    flow.verdict(&format!(
        "the list was built anew three times, and the projector died at {BUILDING:?}"
    ))
    .await
}
