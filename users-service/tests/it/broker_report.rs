//! What RabbitMQ reports of our exchanges, queues and bindings is what docs/OPERATIONS.md lists, after every start.
//!
//! `WRITE_DOCS=1 cargo test -p users-service --test it broker_report` writes the list anew.

use crate::bus::{Bus, PACE, statistics, view};
use crate::documents::check;
use crate::support::{App, spawn_app, until};
use messaging::serve_rpc;
use serde_json::Value;
use std::fmt::Write as _;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Runs all roles that use the broker, until each has declared its part. Stops them.
async fn run_roles(app: &App, bus: &Bus) {
    let shutdown = CancellationToken::new();
    let server = bus.account("uuids-service");
    let reply = |_| async { Vec::new() };
    let serving = tokio::spawn(serve_rpc(server, "uuids", reply, shutdown.clone()));
    let projector = bus.projector(app, &view(app).await, Duration::from_secs(1));
    let (_, counting) = statistics(&app.databases()).await;
    let counting = bus.projector(app, &counting, Duration::from_secs(1));
    let commands = bus.commands(app).await;
    let publisher = bus.publisher(app, PACE);
    for role in [&projector, &counting, &commands, &publisher] {
        role.ready().await;
    }
    until("the queue of ids is served", async || {
        let queues = report(bus, "queues").await;
        queues
            .iter()
            .any(|queue| queue["name"] == "uuids")
            .then_some(())
    })
    .await;
    let name = uuid::Uuid::new_v4().simple().to_string();
    app.created(&name).await;
    crate::bus::until_published(app).await;
    shutdown.cancel();
    serving.await.unwrap();
    for role in [projector, counting, commands, publisher] {
        role.stop().await;
    }
}

/// All objects of this kind in the virtual host, without those that every virtual host has.
async fn report(bus: &Bus, kind: &str) -> Vec<Value> {
    let all = bus.manage("GET", kind, "", &Value::Null).await;
    let ours = |one: &Value| {
        let name = one["name"].as_str().or(one["source"].as_str());
        name.is_some_and(|name| !name.is_empty() && !name.starts_with("amq."))
    };
    all.as_array()
        .unwrap()
        .iter()
        .filter(|one| ours(one))
        .cloned()
        .collect()
}

/// The arguments, without the type, which RabbitMQ 4 adds.
fn arguments(object: &Value) -> String {
    let arguments = object["arguments"].as_object().unwrap().iter();
    let arguments = arguments.filter(|(name, _)| *name != "x-queue-type");
    let mut shown: Vec<_> = arguments
        .map(|(name, value)| format!("`{name}: {value}`"))
        .collect();
    shown.sort();
    shown.join(", ")
}

fn text<'a>(object: &'a Value, member: &str) -> &'a str {
    object[member].as_str().unwrap()
}

fn sorted(mut rows: Vec<String>) -> String {
    rows.sort();
    rows.concat()
}

/// An exchange or a queue.
fn row(one: &Value) -> String {
    format!(
        "| `{}` | {} | {} |\n",
        text(one, "name"),
        text(one, "type"),
        arguments(one)
    )
}

/// What the broker reports, as tables.
async fn tables(bus: &Bus) -> String {
    let mut tables = "| exchange | type | arguments |\n|---|---|---|\n".to_owned();
    let exchanges = report(bus, "exchanges").await;
    tables += &sorted(
        exchanges
            .iter()
            .map(|one| {
                assert_eq!(
                    (&one["durable"], &one["auto_delete"]),
                    (&true.into(), &false.into()),
                    "{one}"
                );
                row(one)
            })
            .collect(),
    );
    tables += "\n| queue | type | arguments |\n|---|---|---|\n";
    let queues = report(bus, "queues").await;
    tables += &sorted(
        queues
            .iter()
            .map(|one| {
                assert_eq!(one["durable"], true, "{one}");
                row(one)
            })
            .collect(),
    );
    writeln!(tables, "\n| binding from | to | key |\n|---|---|---|").unwrap();
    // The default exchange has a binding of its own for each queue.
    let bindings = report(bus, "bindings").await;
    tables += &sorted(
        bindings
            .iter()
            .map(|one| {
                let to = (text(one, "destination_type"), text(one, "destination"));
                format!(
                    "| `{}` | {} `{}` | `{}` |\n",
                    text(one, "source"),
                    to.0,
                    to.1,
                    text(one, "routing_key")
                )
            })
            .collect(),
    );
    tables
}

#[tokio::test]
async fn the_broker_reports_what_the_document_lists_after_every_start() {
    let (app, bus) = tokio::join!(spawn_app(), Bus::bare());
    run_roles(&app, &bus).await;
    let reported = tables(&bus).await;
    run_roles(&app, &bus).await;
    assert_eq!(tables(&bus).await, reported);
    // The queue of ids lives as long as a process serves it.
    assert!(!reported.contains("uuids"));
    check("OPERATIONS.md", &reported);
}
