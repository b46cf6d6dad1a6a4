//! Whatever part of the topology an operator deletes at run time is back within seconds, and nothing is lost.

use crate::bus::{Bus, PACE, Role, forged, listed, read_model, view};
use crate::support::{App, id, spawn_app, until};
use messaging::Consumer;
use serde_json::Value;
use std::time::Duration;
use users_service::integration::consumer::{PARTITIONS, dead_letter_queue, queue};
use users_service::read_model::ReadModel;

const CHECK_EVERY: Duration = Duration::from_millis(500);

/// Everything runs, and somebody else's queue takes all that is published, so that nothing is returned.
struct Running {
    app: App,
    bus: Bus,
    read_model: ReadModel,
    publisher: Role,
    projector: Role,
    _probe: Consumer,
}

async fn running() -> Running {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let view = view(&app).await;
    let projector = bus.projector(&app, &view, CHECK_EVERY);
    projector.ready().await;
    let probe = bus.probe().await;
    let publisher = bus.publisher(&app, PACE);
    publisher.ready().await;
    Running {
        read_model: read_model(&app).await,
        app,
        bus,
        publisher,
        projector,
        _probe: probe,
    }
}

impl Running {
    /// Creates users, one at a time, until `holds` and at least one of each partition; all of them must be listed.
    async fn all_are_listed(&self) {
        let mut ids = Vec::new();
        for number in 0..20 {
            let user = self.app.created(&format!("ada{number}")).await;
            ids.push(id(&user).to_owned());
        }
        until("all are listed", async || {
            let listed = listed(&self.app, &self.read_model).await;
            let all = ids.iter().all(|id| listed.iter().any(|(one, _)| one == id));
            all.then_some(())
        })
        .await;
        self.publisher.ready().await;
        self.projector.ready().await;
    }

    async fn until_dead(&self, count: usize) {
        until("garbage is in the dead queue", async || {
            (self.bus.dead().await.len() == count).then_some(())
        })
        .await;
    }

    async fn bindings(&self) -> Vec<(String, String)> {
        let bindings = self.bus.manage("GET", "bindings", "", &Value::Null).await;
        let bindings = bindings.as_array().unwrap().iter();
        let mut bindings: Vec<_> = bindings
            .map(|one| (one["source"].to_string(), one["destination"].to_string()))
            .filter(|(source, destination)| source != "\"\"" && !destination.contains("probe"))
            .collect();
        bindings.sort();
        bindings
    }

    /// Deletes a part, and sees that it is back with its bindings, and everybody is listed.
    async fn deleting(&self, kind: &str, rest: &str) {
        let before = self.bindings().await;
        assert_eq!(before.len(), PARTITIONS + 1);
        self.bus.manage("DELETE", kind, rest, &Value::Null).await;
        self.all_are_listed().await;
        until(&format!("all bindings are back after {rest}"), async || {
            (self.bindings().await == before).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn the_exchange_that_is_deleted_is_back_with_its_bindings() {
    running().await.deleting("exchanges", "users").await;
}

#[tokio::test]
async fn the_hash_exchange_that_is_deleted_is_back_with_its_bindings() {
    let hash = "users.directory.g1";
    running().await.deleting("exchanges", hash).await;
}

#[tokio::test]
async fn a_queue_that_is_deleted_is_back_with_its_binding() {
    running().await.deleting("queues", &queue(1)).await;
}

#[tokio::test]
async fn a_binding_that_is_deleted_is_back_although_another_queue_takes_everything() {
    let binding = "e/users/e/users.directory.g1/%23";
    running().await.deleting("bindings", binding).await;
}

#[tokio::test]
async fn a_binding_of_one_queue_that_is_deleted_is_back() {
    let binding = format!("e/users.directory.g1/q/{}/1", queue(2));
    running().await.deleting("bindings", &binding).await;
}

#[tokio::test]
async fn a_dead_queue_that_is_deleted_is_back_for_the_next_message_and_holds_up_nobody() {
    let running = running().await;
    let garbage = || forged("", &queue(0), &[], b"garbage");
    running.bus.sender().publish(garbage()).await.unwrap();
    running.until_dead(1).await;
    let dead = dead_letter_queue(&queue(0));
    running
        .bus
        .manage("DELETE", "queues", &dead, &Value::Null)
        .await;
    running.bus.sender().publish(garbage()).await.unwrap();
    running.all_are_listed().await;
    running.until_dead(1).await;
}
