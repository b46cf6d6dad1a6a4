//! The broker is restarted, killed, paused, and in alarm.

use super::{in_long_form, last};
use anyhow::{Result, ensure};
use serde_json::Value;
use std::time::Duration;
use system_tests::flow::Flow;
use system_tests::system::{Node, System};
use system_tests::traffic::Traffic;
use system_tests::wait;

fn pause() -> Duration {
    Duration::from_secs(in_long_form(8, 90))
}

fn alarm() -> Duration {
    Duration::from_secs(in_long_form(8, 300))
}

async fn until_alarmed(system: &System, alarm: &str, on: bool) -> Result<()> {
    wait::until(&format!("{alarm} is {on}"), || async {
        let nodes = system
            .broker
            .management("GET", "nodes", &Value::Null)
            .await?;
        ensure!(nodes[0][alarm] == on, "{}", nodes[0][alarm]);
        Ok(())
    })
    .await
}

/// Puts the node in alarm by one command, and takes the alarm away by another.
async fn alarmed(
    system: &System,
    traffic: &Traffic,
    (alarm, on, off): (&str, &str, &str),
    time: Duration,
) -> Result<()> {
    system.broker.control(on).await?;
    until_alarmed(system, alarm, true).await?;
    last(traffic, time).await?;
    until_alarmed(system, alarm, true).await?;
    system.broker.control(off).await?;
    until_alarmed(system, alarm, false).await
}

#[tokio::test]
async fn a_broker_that_is_restarted_or_killed_loses_nothing() -> Result<()> {
    let mut flow = Flow::start(Node::own().await?).await?;
    flow.under_traffic(async |system, traffic| {
        system.broker.control("stop_app").await?;
        traffic.more(60).await?;
        system.broker.control("start_app").await
    })
    .await?;
    flow.under_traffic(async |system, traffic| {
        system.broker.kill().await?;
        traffic.more(60).await?;
        system.broker.restart().await
    })
    .await?;
    flow.verdict("the broker restarted and killed").await
}

#[tokio::test]
async fn a_broker_that_is_paused_loses_nothing() -> Result<()> {
    let mut flow = Flow::start(Node::own().await?).await?;
    flow.under_traffic(async |system, traffic| {
        system.broker.pause().await?;
        last(traffic, pause()).await?;
        system.broker.resume().await
    })
    .await?;
    flow.verdict(&format!("the broker paused for {:?}", pause()))
        .await
}

#[tokio::test]
async fn a_broker_in_memory_alarm_and_in_disk_alarm_loses_nothing() -> Result<()> {
    let mut flow = Flow::start(Node::own().await?).await?;
    let memory = (
        "mem_alarm",
        "set_vm_memory_high_watermark absolute 1MB",
        "set_vm_memory_high_watermark absolute 2GB",
    );
    let disk = (
        "disk_free_alarm",
        "set_disk_free_limit 100000GB",
        "set_disk_free_limit 50MB",
    );
    for fault in [memory, disk] {
        flow.under_traffic(async |system, traffic| alarmed(system, traffic, fault, alarm()).await)
            .await?;
    }
    let what = format!("memory alarm and disk alarm for {:?} each", alarm());
    flow.verdict(&what).await
}
