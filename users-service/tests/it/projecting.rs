use crate::bus::directory::{PARTITIONS, queue, topology};
use crate::bus::{
    Bus, PACE, ReadModel, forged, listed, read_model, repair, to_message, until_listed,
    until_published, view,
};
use crate::support::{App, id, on_both, spawn_app, until};
use bytes::Bytes;
use event_streams::{Expected, NewEvent};
use messaging::{Consumer, Incoming};
use serde_json::{Value, json};
use std::path::Path;
use std::time::Duration;
use users_service::domain::UserId;
use users_service::integration::consumer::dead_letter_queue;
use users_service::read_model::{ERASED, ProvenChange, ProvenEvent};

/// So long that no test sees a second look at the log.
const NEVER: Duration = Duration::from_hours(10);

async fn all(app: &App) -> (Bus, ReadModel) {
    tokio::join!(Bus::new(), read_model(app))
}

fn number(user: &Value) -> UserId {
    id(user).parse().unwrap()
}

on_both! {
    what_happens_to_users_shows_in_the_list,
    messages_that_come_again_change_nothing,
    a_gap_is_filled_from_the_log,
    an_event_that_the_log_does_not_have_goes_to_the_dead_queue,
    a_lost_last_event_is_found_by_comparing_with_the_log,
    a_queue_that_was_deleted_with_its_messages_is_made_up_for,
    a_queue_deleted_under_the_projector_is_made_up_for,
    garbage_goes_to_the_dead_queue_with_a_reason_and_stops_nobody,
    a_dead_queue_that_was_deleted_is_back_for_the_next_garbage,
    the_hash_exchange_that_was_deleted_is_back_and_what_it_missed_is_made_up_for,
    a_stream_that_is_tombstoned_under_the_reader_is_an_erasure,
    a_message_that_kills_the_process_three_times_holds_its_user_only,
    an_event_that_cannot_be_applied_holds_its_user_until_it_is_deleted,
    a_projector_that_is_killed_again_and_again_loses_and_repeats_nothing,
    a_held_users_lost_deletion_is_found_by_comparing_with_the_log,
    a_deletion_that_killed_the_process_three_times_is_tried_again,
    a_message_with_the_names_of_another_user_goes_to_the_dead_queue,
    a_message_with_a_key_that_never_was_is_not_taken_for_a_lost_key,
}

async fn what_happens_to_users_shows_in_the_list(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let projector = bus.projector(&app, &view, NEVER);
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    until_listed(&app, &read_model, &[(id(&ada), "ada"), (id(&eda), "eda")]).await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    until_listed(
        &app,
        &read_model,
        &[(id(&ada), "augusta"), (id(&eda), "eda")],
    )
    .await;
    app.delete(&ada).await;
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
    projector.ready().await;
    assert_eq!(bus.dead_letters().await, Vec::<String>::new());
}

async fn messages_that_come_again_change_nothing(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    bus.publish(&app, &ada, &[0, 1, 0, 1, 1, 0]).await;
    app.patch(&ada, &json!({"username": "lovelace"})).await;
    bus.publish(&app, &ada, &[0, 2, 1, 0]).await;
    until_listed(&app, &read_model, &[(id(&ada), "lovelace")]).await;
    // The last of these shows that all before it were taken.
    let eda = app.created("eda").await;
    bus.publish(&app, &ada, &[0, 1, 2]).await;
    bus.publish(&app, &eda, &[0]).await;
    until_listed(
        &app,
        &read_model,
        &[(id(&ada), "lovelace"), (id(&eda), "eda")],
    )
    .await;
    assert_eq!(
        view.standing(number(&ada)).await.unwrap().revision(),
        Some(2)
    );
}

async fn a_gap_is_filled_from_the_log(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    bus.publish(&app, &ada, &[2]).await;
    until_listed(&app, &read_model, &[(id(&ada), "augusta")]).await;
    assert_eq!(
        view.standing(number(&ada)).await.unwrap().revision(),
        Some(2)
    );
}

async fn an_event_that_the_log_does_not_have_goes_to_the_dead_queue(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    bus.publish(&app, &ada, &[0]).await;
    let headers = [
        ("cloudEvents:type", "user.fenced.v1"),
        ("cloudEvents:sequence", "9"),
        ("cloudEvents:partitionkey", id(&ada)),
    ];
    let body = json!({"id": id(&ada)}).to_string();
    let ghost = forged("users", "user.fenced.v1", &headers, body.as_bytes());
    bus.sender().publish(ghost).await.unwrap();
    until("the ghost is buried", async || {
        (bus.dead_letters().await == ["\"the log has no such event\""]).then_some(())
    })
    .await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
}

/// Every user's last event can be lost without a later one to show it.
async fn a_lost_last_event_is_found_by_comparing_with_the_log(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _other_team = bus.probe().await;
    let binding = "e/users.events/e/users.directory.g1/%23";
    bus.manage("DELETE", "bindings", binding, &Value::Null)
        .await;
    let _publisher = bus.publisher(&app, PACE);
    let ada = app.created("ada").await;
    until_published(&app).await;
    let _projector = bus.projector(&app, &view, NEVER);
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
}

async fn a_queue_that_was_deleted_with_its_messages_is_made_up_for(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _publisher = bus.publisher(&app, PACE);
    let ada = app.created("ada").await;
    until_published(&app).await;
    for partition in 0..PARTITIONS {
        bus.manage("DELETE", "queues", &queue(partition), &Value::Null)
            .await;
    }
    let _projector = bus.projector(&app, &view, NEVER);
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
}

async fn a_queue_deleted_under_the_projector_is_made_up_for(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let projector = bus.projector(&app, &view, NEVER);
    projector.ready().await;
    for partition in 0..PARTITIONS {
        bus.manage("DELETE", "queues", &queue(partition), &Value::Null)
            .await;
    }
    let ada = app.created("ada").await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
}

async fn garbage_goes_to_the_dead_queue_with_a_reason_and_stops_nobody(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let projector = bus.projector(&app, &view, NEVER);
    projector.ready().await;
    let typed = [
        ("cloudEvents:type", "user.created.v1"),
        ("cloudEvents:sequence", "0"),
        ("cloudEvents:partitionkey", "5"),
    ];
    let strange = [("cloudEvents:type", "user.promoted.v1"), typed[1], typed[2]];
    let sender = bus.sender();
    let direct = queue(0);
    for message in [
        forged("users", "anything", &[], b"\xff\xfe not even text"),
        forged("users", "user.created.v1", &typed, b"{"),
        forged("users", "user.created.v1", &typed, br#"{"id":"5"}"#),
        forged("users", "user.created.v1", &typed, br#"{"id":"6"}"#),
        forged("users", "user.promoted.v1", &strange, br#"{"id":"5"}"#),
        forged("", &direct, &[], b"straight into the queue"),
    ] {
        sender.publish(message).await.unwrap();
    }
    let ada = app.created("ada").await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    let reasons = until("all garbage is buried", async || {
        Some(bus.dead_letters().await).filter(|dead| dead.len() == 6)
    })
    .await;
    assert!(reasons.iter().all(|reason| reason.len() > 4), "{reasons:?}");
    projector.ready().await;
}

async fn a_dead_queue_that_was_deleted_is_back_for_the_next_garbage(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let projector = bus.projector(&app, &view, NEVER);
    projector.ready().await;
    for partition in 0..PARTITIONS {
        let dead = dead_letter_queue(&queue(partition));
        bus.manage("DELETE", "queues", &dead, &Value::Null).await;
        let garbage = forged("", &queue(partition), &[], b"garbage");
        bus.sender().publish(garbage).await.unwrap();
    }
    until("all garbage is dead-lettered", async || {
        (bus.dead_letters().await.len() == PARTITIONS).then_some(())
    })
    .await;
    let ada = app.created("ada").await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    projector.ready().await;
}

/// Another team's queue takes everything meanwhile, so that nothing is returned to the publisher.
async fn the_hash_exchange_that_was_deleted_is_back_and_what_it_missed_is_made_up_for(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let projector = bus.projector(&app, &view, Duration::from_millis(200));
    projector.ready().await;
    let _other_team = bus.probe().await;
    let _publisher = bus.publisher(&app, PACE);
    let hash = "users.directory.g1";
    bus.manage("DELETE", "exchanges", hash, &Value::Null).await;
    let ada = app.created("ada").await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    until("all bindings are back", async || {
        let bindings = bus.manage("GET", "bindings", "", &Value::Null).await;
        let bindings = bindings.as_array()?.iter();
        let ours = |binding: &&Value| {
            let (source, destination) = (&binding["source"], &binding["destination"]);
            source == hash || (source == "users.events" && destination == hash)
        };
        (bindings.filter(ours).count() == PARTITIONS + 1).then_some(())
    })
    .await;
}

fn files_with(folder: &Path, needle: &str) -> Vec<String> {
    let mut found = Vec::new();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if !name.starts_with("directory_g1.db") {
            continue;
        }
        let bytes = std::fs::read(&path).unwrap();
        if bytes
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
        {
            found.push(name);
        }
    }
    found
}

#[tokio::test]
async fn a_deleted_user_leaves_nothing_in_the_files_of_sqlite() {
    let app = spawn_app().await;
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    until_listed(&app, &read_model, &[(id(&ada), "ada")]).await;
    let tables = app.tables().await;
    let sealed: (String, String, String, String) =
        sqlx::query_as("SELECT key, username, given_name, family_name FROM users")
            .fetch_one(&tables)
            .await
            .unwrap();
    let sealed = [sealed.0, sealed.1, sealed.2, sealed.3];
    for value in &sealed {
        let found = files_with(app.folder.path(), value);
        assert!(!found.is_empty(), "the search finds what is there");
    }
    assert!(
        files_with(app.folder.path(), "Lovelace").is_empty(),
        "not even sealed"
    );
    app.delete(&ada).await;
    until("the view forgets", async || {
        let forgotten = sealed
            .iter()
            .all(|value| files_with(app.folder.path(), value).is_empty());
        forgotten.then_some(())
    })
    .await;
    let standing = view.standing(number(&ada)).await.unwrap();
    assert_eq!(standing.revision(), Some(ERASED));
    bus.publish(&app, &ada, &[0, 1]).await;
    let eda = app.created("eda").await;
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
}

async fn a_stream_that_is_tombstoned_under_the_reader_is_an_erasure(app: App) {
    let bus = Bus::new().await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    let events = app.events(&format!("users-{}", id(&ada))).await;
    let late = to_message(&app, &events[1]).await;
    let stream = format!("users-{}", id(&ada));
    app.store
        .tombstone(&stream, Expected::Revision(1))
        .await
        .unwrap();
    bus.sender().publish(late.encode()).await.unwrap();
    until("the user is erased", async || {
        let standing = view.standing(number(&ada)).await.unwrap();
        (standing.revision() == Some(ERASED)).then_some(())
    })
    .await;
}

/// Takes the messages of all queues once, as a projector would that dies.
pub(crate) async fn take_and_die(bus: &Bus) {
    for partition in 0..PARTITIONS {
        let name = queue(partition);
        let count = until("the messages are counted", async || {
            let queue = bus.manage("GET", "queues", &name, &Value::Null).await;
            queue["messages"].as_u64()
        })
        .await;
        let mut consumer = Consumer::new(bus.broker.clone(), topology(), name, 100);
        assert!(matches!(consumer.next(1).await, Incoming::Opened { .. }));
        if count > 0 {
            assert!(matches!(consumer.next(100).await, Incoming::Batch(_)));
        }
        consumer.close().await;
    }
}

async fn a_message_that_kills_the_process_three_times_holds_its_user_only(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    for user in [&ada, &eda] {
        bus.publish(&app, user, &[0]).await;
    }
    take_and_die(&bus).await;
    for _ in 0..3 {
        view.count_attempt((number(&ada), 0)).await.unwrap();
    }
    view.count_attempt((number(&eda), 0)).await.unwrap();
    let projector = bus.projector(&app, &view, NEVER);
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
    until("ada is held", async || {
        view.standing(number(&ada))
            .await
            .unwrap()
            .held
            .then_some(())
    })
    .await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    bus.publish(&app, &ada, &[1]).await;
    let ida = app.created("ida").await;
    bus.publish(&app, &ida, &[0]).await;
    until_listed(&app, &read_model, &[(id(&eda), "eda"), (id(&ida), "ida")]).await;
    projector.ready().await;
    repair(&app, &view)
        .catch_up(number(&ada), true)
        .await
        .unwrap();
    let everybody = [(id(&ada), "augusta"), (id(&eda), "eda"), (id(&ida), "ida")];
    until_listed(&app, &read_model, &everybody).await;
    assert!(!view.standing(number(&ada)).await.unwrap().held);
}

async fn an_event_that_cannot_be_applied_holds_its_user_until_it_is_deleted(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    let damaged = app.events(&format!("users-{}", id(&ada))).await.remove(0);
    let mut data: Value = serde_json::from_slice(&damaged.data).unwrap();
    data["sealed"]["username"] = "AAAA".into();
    let stream = format!("users-{}", id(&ada));
    let bare = json!({"id": id(&ada)}).to_string();
    let append = async |event_type: &'static str, data: String, metadata, after| {
        let event = NewEvent {
            id: uuid::Uuid::new_v4(),
            event_type: event_type.into(),
            data: data.into(),
            metadata,
        };
        let appended = app
            .store
            .append(&stream, Expected::Revision(after), vec![event]);
        appended.await.unwrap();
    };
    append("UserPatched.v1", data.to_string(), damaged.metadata, 0).await;
    append("RenameFenced.v1", bare.clone(), Bytes::new(), 1).await;
    bus.publish(&app, &ada, &[2]).await;
    until("ada is held", async || {
        let standing = view.standing(number(&ada)).await.unwrap();
        (standing.held && standing.revision() == Some(0)).then_some(())
    })
    .await;
    let eda = app.created("eda").await;
    bus.publish(&app, &eda, &[0]).await;
    until_listed(&app, &read_model, &[(id(&ada), "ada"), (id(&eda), "eda")]).await;
    let held = repair(&app, &view)
        .catch_up(number(&ada), true)
        .await
        .unwrap();
    assert!(held.held, "it still cannot be applied");
    append("UserDeleted.v1", bare, Bytes::new(), 2).await;
    bus.publish(&app, &ada, &[3]).await;
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
    assert!(!view.standing(number(&ada)).await.unwrap().held);
}

async fn a_projector_that_is_killed_again_and_again_loses_and_repeats_nothing(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    let _publisher = bus.publisher(&app, PACE);
    let mut users = Vec::new();
    for round in 0..5 {
        let projector = bus.projector(&app, &view, NEVER);
        projector.ready().await;
        for user in 0..20 {
            let user = app.created(&format!("ada-{round}-{user}")).await;
            app.patch(&user, &json!({"given_name": "Augusta"})).await;
            users.push(user);
        }
        projector.kill().await;
    }
    let _projector = bus.projector(&app, &view, NEVER);
    until("everybody is listed", async || {
        (listed(&app, &read_model).await.len() == users.len()).then_some(())
    })
    .await;
    for user in &users {
        until("both events are applied", async || {
            let standing = view.standing(number(user)).await.unwrap();
            assert!(standing.revision() <= Some(1) && !standing.held);
            (standing.revision() == Some(1)).then_some(())
        })
        .await;
    }
}

/// The messages of all queues are lost; only the log has the deletion.
async fn a_held_users_lost_deletion_is_found_by_comparing_with_the_log(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    let repair = repair(&app, &view);
    for user in [&ada, &eda] {
        repair.catch_up(number(user), false).await.unwrap();
    }
    view.hold(number(&ada), 1, "a test").await.unwrap();
    app.delete(&ada).await;
    let end = app.log().await.last().unwrap().position;
    repair.complete(end).await.unwrap();
    let standing = view.standing(number(&ada)).await.unwrap();
    assert_eq!(standing.revision(), Some(ERASED));
    assert!(!standing.held);
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
}

async fn a_deletion_that_killed_the_process_three_times_is_tried_again(app: App) {
    let bus = Bus::new().await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let ada = app.created("ada").await;
    repair(&app, &view)
        .catch_up(number(&ada), false)
        .await
        .unwrap();
    app.delete(&ada).await;
    bus.publish(&app, &ada, &[1]).await;
    take_and_die(&bus).await;
    for _ in 0..3 {
        view.count_attempt((number(&ada), 1)).await.unwrap();
    }
    let _projector = bus.projector(&app, &view, NEVER);
    until("ada is erased", async || {
        let standing = view.standing(number(&ada)).await.unwrap();
        assert!(!standing.held);
        (standing.revision() == Some(ERASED)).then_some(())
    })
    .await;
}

/// The names of one user in a message about another one: both keys are there, and the row is not mixed.
async fn a_message_with_the_names_of_another_user_goes_to_the_dead_queue(app: App) {
    let (bus, read_model) = all(&app).await;
    let view = view(&app).await;
    bus.broker.declare(&topology()).await.unwrap();
    let projector = bus.projector(&app, &view, NEVER);
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    app.patch(&ada, &json!({"username": "augusta"})).await;
    bus.publish(&app, &eda, &[0]).await;
    until_listed(&app, &read_model, &[(id(&eda), "eda")]).await;
    let events = app.events(&format!("users-{}", id(&ada))).await;
    let mut moved = to_message(&app, &events[1]).await;
    moved.user = number(&eda);
    bus.sender().publish(moved.encode()).await.unwrap();
    until("the copy is buried", async || {
        (bus.dead_letters().await.len() == 1).then_some(())
    })
    .await;
    bus.publish(&app, &ada, &[0, 1]).await;
    let everybody = [(id(&ada), "augusta"), (id(&eda), "eda")];
    until_listed(&app, &read_model, &everybody).await;
    projector.ready().await;
}

async fn a_message_with_a_key_that_never_was_is_not_taken_for_a_lost_key(app: App) {
    let bus = Bus::new().await;
    let view = view(&app).await;
    let projector = bus.projector(&app, &view, NEVER);
    projector.ready().await;
    let headers = [
        ("cloudEvents:type", "user.created.v1"),
        ("cloudEvents:sequence", "0"),
        ("cloudEvents:partitionkey", "5"),
    ];
    let sealed = json!({"username": "AAAA", "given_name": "AAAA", "family_name": "AAAA"});
    let body = json!({"id": "5", "key": "0f".repeat(16), "sealed": sealed}).to_string();
    let ghost = forged("users", "user.created.v1", &headers, body.as_bytes());
    bus.sender().publish(ghost).await.unwrap();
    until("the ghost is buried", async || {
        (bus.dead_letters().await.len() == 1).then_some(())
    })
    .await;
    app.keys.check().await.unwrap();
    projector.ready().await;
}

#[tokio::test]
async fn an_erasure_that_readers_of_sqlite_hold_up_fails_and_can_be_repeated() {
    let app = spawn_app().await;
    let view = view(&app).await;
    let ada = app.created("ada").await;
    let erasure = vec![ProvenEvent {
        id: uuid::Uuid::new_v4(),
        user: number(&ada),
        revision: ERASED,
        created: 0,
        change: ProvenChange::Deleted,
    }];
    repair(&app, &view)
        .catch_up(number(&ada), false)
        .await
        .unwrap();
    let mut reading = app.tables().await.begin().await.unwrap();
    sqlx::query("SELECT id FROM users")
        .fetch_all(&mut *reading)
        .await
        .unwrap();
    assert!(view.apply(erasure.clone()).await.is_err());
    reading.rollback().await.unwrap();
    view.apply(erasure).await.unwrap();
}
