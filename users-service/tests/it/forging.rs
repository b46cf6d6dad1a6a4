//! Forged messages on the bus do not change the read model. They only go to the dead-letter queue.

use crate::bus::directory::{queue, topology};
use crate::bus::{Bus, PACE, forged, listed, read_model, repair, to_message, until_listed, view};
use crate::support::{App, id, on_both, spawn_app, until};
use messaging::Message;
use serde_json::{Value, json};
use sqlx::SqlitePool;
use std::time::Duration;
use users_service::read_model::ERASED;

/// So long that no test sees a second comparison with the log.
const NEVER: Duration = Duration::from_hours(10);

/// A forged message in the form of a genuine one.
fn message(event_type: &str, user: &Value, sequence: u64, body: &Value) -> Message {
    let sequence = sequence.to_string();
    let headers = [
        ("cloudEvents:type", event_type),
        ("cloudEvents:subject", id(user)),
        ("cloudEvents:sequence", sequence.as_str()),
        ("cloudEvents:partitionkey", id(user)),
    ];
    forged("users", event_type, &headers, body.to_string().as_bytes())
}

fn bare(event_type: &str, user: &Value, sequence: u64) -> Message {
    message(event_type, user, sequence, &json!({"id": id(user)}))
}

fn replace(message: &mut Message, header: &str, value: &str) {
    let found = message.headers.iter_mut().find(|(name, _)| name == header);
    value.clone_into(&mut found.unwrap().1);
}

/// The genuine message of an event in the log.
async fn genuine(app: &App, user: &Value, revision: usize) -> Message {
    let events = app.events(&format!("users-{}", id(user))).await;
    to_message(app, &events[revision]).await.encode()
}

async fn until_dead_lettered(bus: &Bus, count: usize) -> Vec<String> {
    let dead = until(&format!("{count} messages are dead-lettered"), async || {
        Some(bus.dead_letters().await).filter(|dead| dead.len() >= count)
    })
    .await;
    assert_eq!(dead.len(), count, "{dead:?}");
    dead
}

/// Forged messages about `ada`, an active user with one event in the log. `eda` was deleted.
async fn forgeries(app: &App, ada: &Value, eda: &Value) -> Vec<Message> {
    let key = |message: &Message| {
        let body: Value = serde_json::from_slice(&message.body).unwrap();
        body["key"].as_str().unwrap().to_owned()
    };
    let created = genuine(app, ada, 0).await;
    let of_eda = app.events(&format!("users-{}", id(eda))).await;
    let of_eda: Value = serde_json::from_slice(&of_eda[0].data).unwrap();
    let destroyed = of_eda["key"].as_str().unwrap();
    let sealed = json!({"username": "AAAA"});
    let patched = "user.patched.v1";
    let with_a_destroyed_key = json!({"id": id(ada), "key": destroyed, "sealed": sealed});
    let with_no_name = json!({"id": id(ada), "key": key(&created)});
    let mut with_the_id_of_another_event = bare("user.deleted.v1", ada, 1);
    with_the_id_of_another_event.id.clone_from(&created.id);
    let mut created_again = created.clone();
    created_again.id = uuid::Uuid::new_v4().to_string();
    replace(&mut created_again, "cloudEvents:sequence", "1");
    let mut about_another = bare("user.fenced.v1", ada, 1);
    replace(&mut about_another, "cloudEvents:subject", id(eda));
    vec![
        bare("user.deleted.v1", ada, 1),
        bare("user.deleted.v1", ada, 0),
        with_the_id_of_another_event,
        bare("user.fenced.v1", ada, 1),
        bare("user.fenced.v1", ada, 0),
        bare("user.fenced.v1", ada, 9),
        bare("user.fenced.v1", ada, ERASED),
        bare("user.fenced.v1", &json!({"id": "12345"}), 0),
        bare("user.deleted.v1", &json!({"id": "12345"}), 0),
        message(patched, ada, 1, &json!({"id": id(ada), "erased": true})),
        message(patched, ada, 1, &with_a_destroyed_key),
        message(patched, ada, 1, &with_no_name),
        created_again,
        about_another,
    ]
}

on_both! {
    a_forged_message_is_dead_lettered_and_changes_nothing,
    an_altered_message_is_replaced_by_the_event_in_the_log,
    an_old_message_with_a_later_revision_does_not_restore_an_old_name,
    a_message_is_applied_whatever_trace_it_claims,
    a_view_that_differs_from_the_log_is_repaired_by_the_next_message,
    a_view_that_differs_from_the_log_is_repaired_by_a_replay,
    a_forged_message_that_kills_the_process_does_not_hold_a_user,
    a_stream_without_a_valid_user_id_does_not_stop_the_comparison,
    a_message_with_a_lost_key_does_not_delay_other_users,
}

async fn a_forged_message_is_dead_lettered_and_changes_nothing(app: App) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    let _publisher = bus.publisher(&app, PACE);
    let projector = bus.projector(&app, &view, NEVER);
    projector.ready().await;
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    app.delete(&eda).await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    let forger = bus.sender();
    let forgeries = forgeries(&app, &ada, &eda).await;
    for (count, forgery) in forgeries.into_iter().enumerate() {
        let what = format!("{:?} {:?}", forgery.headers, forgery.id);
        forger.publish(forgery).await.unwrap();
        until_dead_lettered(&bus, count + 1).await;
        let listed = listed(&app, &read_model).await;
        assert_eq!(listed, [(id(&ada).to_owned(), "ada".to_owned())], "{what}");
        let standing = view.standing(id(&ada).parse().unwrap()).await.unwrap();
        assert_eq!((standing.revision(), standing.held), (Some(0), false));
    }
    app.patch(&ada, &json!({"username": "augusta"})).await;
    until_listed(&app, &read_model, &[(id(&ada), "augusta")]).await;
    app.delete(&ada).await;
    until_listed(&app, &read_model, &[]).await;
    projector.ready().await;
}

async fn an_altered_message_is_replaced_by_the_event_in_the_log(app: App) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    let both = json!({"username": "augusta", "given_name": "Augusta"});
    app.patch(&ada, &both).await;
    let forger = bus.sender();
    let mut without_a_name = genuine(&app, &ada, 1).await;
    let mut body: Value = serde_json::from_slice(&without_a_name.body).unwrap();
    body["sealed"].as_object_mut().unwrap().remove("username");
    without_a_name.body = body.to_string().into_bytes();
    forger.publish(genuine(&app, &ada, 0).await).await.unwrap();
    forger.publish(without_a_name).await.unwrap();
    until_listed(&app, &read_model, &[(id(&ada), "augusta")]).await;
    app.patch(&ada, &json!({"username": "lovelace"})).await;
    let mut retyped = genuine(&app, &ada, 2).await;
    replace(&mut retyped, "cloudEvents:type", "user.deleted.v1");
    retyped.body = json!({"id": id(&ada)}).to_string().into_bytes();
    forger.publish(retyped).await.unwrap();
    until_listed(&app, &read_model, &[(id(&ada), "lovelace")]).await;
    assert_eq!(bus.dead_letters().await, Vec::<String>::new());
}

async fn an_old_message_with_a_later_revision_does_not_restore_an_old_name(app: App) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    app.patch(&ada, &json!({"username": "lovelace"})).await;
    bus.publish(&app, &ada, &[0, 1, 2]).await;
    until_listed(&app, &read_model, &[(id(&ada), "lovelace")]).await;
    let mut old = genuine(&app, &ada, 1).await;
    replace(&mut old, "cloudEvents:sequence", "3");
    let same_id = old.clone();
    old.id = uuid::Uuid::new_v4().to_string();
    for (count, message) in [old, same_id].into_iter().enumerate() {
        bus.sender().publish(message).await.unwrap();
        until_dead_lettered(&bus, count + 1).await;
        until_listed(&app, &read_model, &[(id(&ada), "lovelace")]).await;
    }
    app.patch(&ada, &json!({"username": "byron"})).await;
    bus.publish(&app, &ada, &[3]).await;
    until_listed(&app, &read_model, &[(id(&ada), "byron")]).await;
}

async fn a_message_is_applied_whatever_trace_it_claims(app: App) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    let mut strange = genuine(&app, &ada, 0).await;
    replace(&mut strange, "cloudEvents:traceparent", "no trace");
    bus.sender().publish(strange).await.unwrap();
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    assert_eq!(bus.dead_letters().await, Vec::<String>::new());
}

/// A view that has another event than the log, as after a restore of the store. Returns the user.
async fn damaged(app: &App) -> Value {
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    let _view = view(app).await;
    let end = app.log().await.last().unwrap().position;
    let tables = app.tables().await;
    for statement in [
        format!(
            "INSERT INTO ledger (id, revision, event) VALUES ({}, 1, '{}')",
            id(&ada),
            uuid::Uuid::new_v4()
        ),
        format!(
            "INSERT INTO completeness VALUES (1, {}, {}, 0)",
            end.commit, end.prepare
        ),
    ] {
        sqlx::query(sqlx::AssertSqlSafe(statement))
            .execute(&tables)
            .await
            .unwrap();
    }
    ada
}

async fn a_view_that_differs_from_the_log_is_repaired_by_the_next_message(app: App) {
    let bus = Bus::new().await;
    let ada = damaged(&app).await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    bus.publish(&app, &ada, &[1]).await;
    until_listed(&app, &read_model, &[(id(&ada), "augusta")]).await;
}

async fn a_view_that_differs_from_the_log_is_repaired_by_a_replay(app: App) {
    let ada = damaged(&app).await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    let repair = repair(&app, &view);
    let user = id(&ada).parse().unwrap();
    repair.catch_up(user, true).await.unwrap();
    until_listed(&app, &read_model, &[(id(&ada), "augusta")]).await;
}

/// The view is locked when the batch is processed for the first time.
#[tokio::test]
async fn garbage_in_a_batch_that_a_locked_file_delays_is_dead_lettered_once() {
    let (app, bus) = tokio::join!(spawn_app(), Bus::new());
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let ada = app.created("ada").await;
    let headers = [("cloudEvents:partitionkey", id(&ada))];
    let garbage = forged("users", "garbage", &headers, b"garbage");
    bus.sender().publish(garbage).await.unwrap();
    bus.sender()
        .publish(bare("user.fenced.v1", &ada, 7))
        .await
        .unwrap();
    bus.publish(&app, &ada, &[0]).await;
    let file = app.folder.path().join("directory_g1.db");
    let file = format!("sqlite:{}", file.display());
    let other = SqlitePool::connect(&file).await.unwrap();
    let writing = other.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let projector = bus.projector(&app, &view, NEVER);
    projector.unhealthy("locked").await;
    writing.rollback().await.unwrap();
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    projector.ready().await;
    let dead = until(
        "the last message of the batch is dead-lettered",
        async || {
            let dead = bus.dead_letters().await;
            let last = dead.iter().any(|reason| reason.contains("no such event"));
            last.then_some(dead)
        },
    )
    .await;
    assert_eq!(dead.len(), 2, "{dead:?}");
}

/// A message that killed the process three times holds its user, but only if its event is in the log.
async fn a_forged_message_that_kills_the_process_does_not_hold_a_user(app: App) {
    let bus = Bus::new().await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let ada = app.created("ada").await;
    let user = id(&ada).parse().unwrap();
    bus.sender()
        .publish(bare("user.fenced.v1", &ada, 5))
        .await
        .unwrap();
    crate::projecting::take_and_die(&bus).await;
    for _ in 0..3 {
        view.count_attempt((user, 5)).await.unwrap();
    }
    let _projector = bus.projector(&app, &view, NEVER);
    until_dead_lettered(&bus, 1).await;
    assert!(!view.standing(user).await.unwrap().held);
}

/// Other writers to the store may use any name for a stream.
async fn a_stream_without_a_valid_user_id_does_not_stop_the_comparison(app: App) {
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    for stream in [
        "users-abc",
        "users-007",
        "users-18446744073709551615",
        "users-",
    ] {
        let event = event_streams::NewEvent {
            id: uuid::Uuid::new_v4(),
            event_type: "Anything".into(),
            data: "{}".into(),
            metadata: bytes::Bytes::new(),
        };
        let appended = app
            .store
            .append(stream, event_streams::Expected::NoStream, vec![event]);
        appended.await.unwrap();
    }
    let ada = app.created("ada").await;
    let end = app.log().await.last().unwrap().position;
    repair(&app, &view).complete(end).await.unwrap();
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    let nobody = (1 << 63) - 1;
    let standing = view
        .standing(users_service::domain::UserId::new(nobody))
        .await;
    assert_eq!(standing.unwrap().revision(), None);
}

async fn a_message_with_a_lost_key_does_not_delay_other_users(app: App) {
    let bus = Bus::new().await;
    let (read_model, view) = (read_model(&app).await, view(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    let to_one_queue = |mut message: Message| {
        message.exchange = String::new();
        message.routing_key = queue(0);
        message
    };
    let messages = [genuine(&app, &ada, 0).await, genuine(&app, &eda, 0).await];
    let key: Value = serde_json::from_slice(&messages[0].body).unwrap();
    let delete = "DELETE FROM keys WHERE id = $1";
    let id_of_key = hex::decode(key["key"].as_str().unwrap()).unwrap();
    let deleted = sqlx::query(delete).bind(id_of_key);
    let deleted = deleted.execute(&mut app.key_database().await).await;
    assert_eq!(deleted.unwrap().rows_affected(), 1);
    let [lost, other] = messages.map(to_one_queue);
    let _projector = bus.projector(&app, &view, NEVER);
    bus.sender().publish(lost).await.unwrap();
    until("readiness reports a lost key", async || {
        app.keys.check().await.is_err().then_some(())
    })
    .await;
    bus.sender().publish(other).await.unwrap();
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
    assert_eq!(bus.dead_letters().await, Vec::<String>::new());
}
