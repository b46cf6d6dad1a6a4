//! A part of the topology that an operator deletes at run time is declared again within seconds, and nothing is lost.

use crate::bus::directory::{PARTITIONS, queue};
use crate::bus::{Bus, PACE, ReadModel, Role, forged, listed, read_model, view};
use crate::support::{App, id, spawn_app, until};
use messaging::Consumer;
use serde_json::Value;
use std::time::Duration;
use users_service::integration::consumer::dead_letter_queue;
use uuid::Uuid;

const CHECK_EVERY: Duration = Duration::from_millis(500);

/// A running service. Another team's queue takes all published messages, so that no message is returned.
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
    /// Creates enough users for all partitions, and waits until all of them are listed.
    async fn new_users_are_listed(&self) {
        let mut ids = Vec::new();
        for _ in 0..20 {
            let name = format!("ada{}", Uuid::new_v4().simple());
            let user = self.app.created(&name).await;
            ids.push(id(&user).to_owned());
        }
        until("all new users are listed", async || {
            let listed = listed(&self.app, &self.read_model).await;
            let all = ids.iter().all(|id| listed.iter().any(|(one, _)| one == id));
            all.then_some(())
        })
        .await;
        self.publisher.ready().await;
        self.projector.ready().await;
    }

    async fn until_dead_lettered(&self, count: usize) {
        until("garbage is dead-lettered", async || {
            (self.bus.dead_letters().await.len() == count).then_some(())
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

    /// Deletes a part of the topology. Checks that new users are listed, and that the part and its bindings are back.
    async fn survives_deleting(&self, kind: &str, rest: &str) {
        let before = self.bindings().await;
        assert_eq!(before.len(), 2 * PARTITIONS + 2);
        self.bus.manage("DELETE", kind, rest, &Value::Null).await;
        self.new_users_are_listed().await;
        until(&format!("all bindings are back after {rest}"), async || {
            // A publisher declares its part when it publishes.
            let name = format!("bob{}", Uuid::new_v4().simple());
            self.app.created(&name).await;
            (self.bindings().await == before).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_deleted_exchange_is_declared_again_with_its_bindings() {
    running()
        .await
        .survives_deleting("exchanges", "users")
        .await;
}

#[tokio::test]
async fn a_deleted_hash_exchange_is_declared_again_with_its_bindings() {
    let hash = "users.directory.g1";
    running().await.survives_deleting("exchanges", hash).await;
}

#[tokio::test]
async fn the_deleted_exchange_of_readers_is_declared_again_with_its_bindings() {
    let readers = "users.events";
    running()
        .await
        .survives_deleting("exchanges", readers)
        .await;
}

#[tokio::test]
async fn the_deleted_exchange_of_dead_letters_is_declared_again_with_its_bindings() {
    let dead = "users.directory.g1.dead";
    running().await.survives_deleting("exchanges", dead).await;
}

#[tokio::test]
async fn a_deleted_queue_is_declared_again_with_its_binding() {
    running().await.survives_deleting("queues", &queue(1)).await;
}

#[tokio::test]
async fn a_deleted_binding_is_declared_again_although_another_queue_takes_all_messages() {
    let running = running().await;
    for binding in [
        "e/users/e/users.events/%23",
        "e/users.events/e/users.directory.g1/%23",
    ] {
        running.survives_deleting("bindings", binding).await;
    }
}

#[tokio::test]
async fn a_deleted_binding_of_one_queue_is_declared_again() {
    let binding = format!("e/users.directory.g1/q/{}/1", queue(2));
    running()
        .await
        .survives_deleting("bindings", &binding)
        .await;
}

#[tokio::test]
async fn a_deleted_dead_letter_queue_is_declared_again_for_the_next_message() {
    let running = running().await;
    let garbage = || forged("", &queue(0), &[], b"garbage");
    running.bus.sender().publish(garbage()).await.unwrap();
    running.until_dead_lettered(1).await;
    let dead = dead_letter_queue(&queue(0));
    running
        .bus
        .manage("DELETE", "queues", &dead, &Value::Null)
        .await;
    running.bus.sender().publish(garbage()).await.unwrap();
    running.new_users_are_listed().await;
    running.until_dead_lettered(1).await;
}
