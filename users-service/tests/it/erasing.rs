//! An interrupted erasure is resumed, wherever it stopped.

use crate::bus::{Bus, PACE, read_model, until_listed, view};
use crate::support::{
    App, Counter, MASTER, SECRET, create, id, on_both, serve, spawn_app, until, user,
};
use bytes::Bytes;
use event_streams::{Expected, NewEvent, Position, ReadError};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use users_service::command::handler::CommandHandler;
use users_service::command::user_histories::UserHistories;
use users_service::domain::UserId;
use users_service::ids::IdSource;
use users_service::privacy::cipher::KeyId;
use users_service::privacy::subject_keys::{Lookup, SubjectKeys};
use users_service::stored_event::tombstone;
use uuid::Uuid;

on_both! {
    a_deletion_is_answered_when_the_tombstone_is_stored_and_the_key_is_destroyed,
    a_second_request_finishes_an_interrupted_deletion,
    an_interrupted_deletion_is_finished_without_a_second_request,
    a_lost_key_is_not_an_erasure,
    a_user_whose_key_is_lost_can_be_deleted,
    deleting_a_user_whose_key_is_lost_heals_publisher_projector_and_eraser,
    processes_share_the_keys,
}

async fn processes_share_the_keys(app: App) {
    let master = MASTER.repeat(32).parse().unwrap();
    let keys = SubjectKeys::open(&app.databases, master).await.unwrap();
    let ids = IdSource::new(vec![Box::new(Counter::from(1_000))]);
    let secret = SECRET.repeat(32).parse().unwrap();
    let other = CommandHandler::new(app.store.clone(), keys, secret, ids);
    let shutdown = CancellationToken::new();
    let address = serve(other.clone(), shutdown.clone());
    let _stops_when_dropped = shutdown.drop_guard();
    let ada = app.created("ada").await;
    let url = format!("http://{address}/{}", id(&ada));
    let seen = reqwest::get(&url).await.unwrap();
    assert_eq!(seen.json::<Value>().await.unwrap(), ada);
    create(&other, "eve").await.unwrap();
    assert!(app.is_there(&json!({"id": "1001"})).await);
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let gone = reqwest::get(&url).await.unwrap();
    assert_eq!(gone.status(), StatusCode::NOT_FOUND);
}

/// Performs only the first append of a DELETE.
pub(crate) async fn interrupted_delete(app: &App, user: &Value) -> Position {
    let id: UserId = id(user).parse().unwrap();
    let deleted = vec![tombstone(Uuid::new_v4(), id)];
    let stream = format!("users-{id}");
    let appended = app.store.append(&stream, Expected::Revision(0), deleted);
    appended.await.unwrap().position
}

pub(crate) async fn key(app: &App, user: &Value) -> KeyId {
    let histories = UserHistories::new(app.store.clone());
    let history = histories.read(id(user).parse().unwrap()).await;
    history.unwrap().key().unwrap()
}

/// Writes a publisher's checkpoint with this position.
pub(crate) async fn publish_up_to(app: &App, position: Position) {
    let Position { commit, prepare } = position;
    let data = json!({"commit": commit, "prepare": prepare, "holder": Uuid::new_v4()});
    let checkpoint = NewEvent {
        id: Uuid::new_v4(),
        event_type: "PublisherCheckpoint.v1".into(),
        data: data.to_string().into(),
        metadata: Bytes::new(),
    };
    let appended = app
        .store
        .append("publisher-users", Expected::Any, vec![checkpoint]);
    appended.await.unwrap();
}

pub(crate) async fn is_destroyed(app: &App, key: KeyId) -> bool {
    matches!(app.keys.find(key).await.unwrap(), Lookup::Destroyed)
}

async fn is_tombstoned(app: &App, user: &Value) -> bool {
    let last = app.store.read_last(&format!("users-{}", id(user))).await;
    last == Err(ReadError::StreamDeleted)
}

async fn tombstones(app: &App) -> Vec<Value> {
    let events = app.events("users").await;
    let data = |event: &event_streams::RecordedEvent| serde_json::from_slice(&event.data).unwrap();
    // The eraser also counts the user there.
    let tombstones = events
        .iter()
        .filter(|event| event.event_type == "UserDeleted.v1");
    tombstones.map(data).collect()
}

async fn until_checkpoint(app: &App, position: Position) {
    until(
        "the eraser's checkpoint has reached the position",
        || async {
            let last = app.store.read_last("eraser-users").await.unwrap()?;
            let data: Value = serde_json::from_slice(&last.data).unwrap();
            (data["commit"].as_u64() >= Some(position.commit)).then_some(())
        },
    )
    .await;
}

async fn a_deletion_is_answered_when_the_tombstone_is_stored_and_the_key_is_destroyed(app: App) {
    let ada = app.created("ada").await;
    let key = key(&app, &ada).await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    assert!(is_destroyed(&app, key).await);
    assert_eq!(tombstones(&app).await, [json!({"id": id(&ada)})]);
}

async fn a_second_request_finishes_an_interrupted_deletion(app: App) {
    let ada = app.created("ada").await;
    let key = key(&app, &ada).await;
    interrupted_delete(&app, &ada).await;
    assert_eq!(app.delete(&ada).await, StatusCode::NOT_FOUND);
    assert!(is_destroyed(&app, key).await);
    assert_eq!(tombstones(&app).await, [json!({"id": id(&ada)})]);
}

async fn an_interrupted_deletion_is_finished_without_a_second_request(app: App) {
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    let (key, kept) = (key(&app, &ada).await, key(&app, &eve).await);
    let position = interrupted_delete(&app, &ada).await;
    publish_up_to(&app, position).await;
    let _eraser = app.eraser();
    until("the stream is tombstoned", || async {
        is_tombstoned(&app, &ada).await.then_some(())
    })
    .await;
    assert!(is_destroyed(&app, key).await);
    assert_eq!(tombstones(&app).await, [json!({"id": id(&ada)})]);
    assert_eq!(app.create(&user("ada")).await.status(), StatusCode::CREATED);
    assert!(app.is_there(&eve).await);
    assert!(!is_destroyed(&app, kept).await);
    until_checkpoint(&app, position).await;
}

/// Two processes may claim one name for the same user, and only one of the claims is committed.
#[tokio::test]
async fn a_deleted_users_later_claim_of_the_name_is_released_too() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let claimed = app.log().await.remove(0);
    assert_eq!(claimed.event_type, "UsernameClaimed.v1");
    let data = String::from_utf8(claimed.data.to_vec()).unwrap();
    app.append(&claimed.stream, "UsernameClaimed.v1", &data)
        .await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let last = || app.store.read_last(&claimed.stream);
    assert_eq!(last().await.unwrap().unwrap().revision, 1);
    let _eraser = app.eraser();
    until("the claim is released", || async {
        let last = last().await.unwrap()?;
        (last.event_type == "UsernameReleased.v1").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_stream_is_kept_until_the_publisher_is_past_its_last_event() {
    let app = spawn_app().await;
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    let key = key(&app, &eve).await;
    let first = interrupted_delete(&app, &ada).await;
    let second = interrupted_delete(&app, &eve).await;
    publish_up_to(&app, first).await;
    let _eraser = app.eraser();
    until("the second key is destroyed", || async {
        is_destroyed(&app, key).await.then_some(())
    })
    .await;
    until_checkpoint(&app, first).await;
    assert!(is_tombstoned(&app, &ada).await);
    assert!(!is_tombstoned(&app, &eve).await);
    publish_up_to(&app, second).await;
    until("the second stream is tombstoned", || async {
        is_tombstoned(&app, &eve).await.then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_eraser_continues_where_another_one_stopped() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let first = interrupted_delete(&app, &ada).await;
    publish_up_to(&app, first).await;
    let eraser = app.eraser();
    until_checkpoint(&app, first).await;
    drop(eraser);
    let eve = app.created("eve").await;
    let second = interrupted_delete(&app, &eve).await;
    publish_up_to(&app, second).await;
    let (_one, _other) = (app.eraser(), app.eraser());
    until_checkpoint(&app, second).await;
    assert!(is_tombstoned(&app, &eve).await);
    let ids: std::collections::BTreeSet<String> = tombstones(&app)
        .await
        .iter()
        .map(|tombstone| id(tombstone).to_owned())
        .collect();
    assert_eq!(ids.len(), 2);
}

#[tokio::test]
async fn a_tombstoned_user_is_not_found() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let stream = format!("users-{}", id(&ada));
    app.store.tombstone(&stream, Expected::Any).await.unwrap();
    assert!(!app.is_there(&ada).await);
    assert_eq!(app.delete(&ada).await, StatusCode::NOT_FOUND);
    assert_eq!(app.create(&user("ada")).await.status(), StatusCode::CREATED);
}

/// Removes the key from the store, but does not put it on the list of destroyed keys. So the key is lost, not erased.
pub(crate) async fn lose(app: &App, key: KeyId) {
    let lose = sqlx::query("DELETE FROM keys WHERE id = unhex($1)").bind(key.to_string());
    let deleted = lose.execute(&mut app.key_database().await).await.unwrap();
    assert_eq!(deleted.rows_affected(), 1);
}

async fn a_lost_key_is_not_an_erasure(app: App) {
    let ada = app.created("ada").await;
    lose(&app, key(&app, &ada).await).await;
    let patch = json!({"given_name": "Augusta"});
    assert_eq!(
        app.get(&ada).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(
        app.patch(&ada, &patch).await,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert!(app.keys.check().await.is_err());
}

async fn a_user_whose_key_is_lost_can_be_deleted(app: App) {
    let ada = app.created("ada").await;
    let key = key(&app, &ada).await;
    lose(&app, key).await;
    assert_eq!(
        app.get(&ada).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    assert!(is_destroyed(&app, key).await);
    app.keys.check().await.unwrap();
    assert!(!app.is_there(&ada).await);
    assert_eq!(app.delete(&ada).await, StatusCode::NOT_FOUND);
    assert_eq!(tombstones(&app).await, [json!({"id": id(&ada)})]);
    app.created("ada").await;
}

async fn deleting_a_user_whose_key_is_lost_heals_publisher_projector_and_eraser(app: App) {
    let bus = Bus::new().await;
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    lose(&app, key(&app, &ada).await).await;
    let (view, model) = (view(&app).await, read_model(&app).await);
    let projector = bus.projector(&app, &view, Duration::from_millis(50));
    projector.ready().await;
    let publisher = bus.publisher(&app, PACE);
    let _eraser = app.eraser();
    until("the lost key is noticed", async || {
        app.keys.check().await.is_err().then_some(())
    })
    .await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    until("the stream is tombstoned", async || {
        is_tombstoned(&app, &ada).await.then_some(())
    })
    .await;
    until_listed(&app, &model, &[(id(&eve), "eve")]).await;
    publisher.ready().await;
    projector.ready().await;
    app.keys.check().await.unwrap();
}

#[tokio::test]
async fn a_user_whose_stream_has_foreign_events_can_be_deleted() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let key = key(&app, &ada).await;
    let foreign = NewEvent {
        id: Uuid::new_v4(),
        event_type: "Foreign.v1".into(),
        data: Bytes::from_static(b"garbage"),
        metadata: Bytes::new(),
    };
    let stream = format!("users-{}", id(&ada));
    let mut answers = Vec::new();
    // Before the deletion, and after it.
    for last in [0, 2] {
        let id = Uuid::new_v4();
        let event = NewEvent {
            id,
            ..foreign.clone()
        };
        let appended = app
            .store
            .append(&stream, Expected::Revision(last), vec![event]);
        appended.await.unwrap();
        answers.push(app.delete(&ada).await);
    }
    assert_eq!(answers, [StatusCode::NO_CONTENT, StatusCode::NOT_FOUND]);
    assert!(is_destroyed(&app, key).await);
    let last = app.events(&stream).await.pop().unwrap();
    publish_up_to(&app, last.position).await;
    let _eraser = app.eraser();
    until("the stream is tombstoned", async || {
        is_tombstoned(&app, &ada).await.then_some(())
    })
    .await;
    app.created("ada").await;
}

#[tokio::test]
async fn a_user_whose_names_do_not_open_can_be_deleted() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    // Names that were sealed for one user's stream do not open in another stream.
    let event = app.events(&format!("users-{}", id(&ada))).await.remove(0);
    let damaged = NewEvent {
        id: Uuid::new_v4(),
        event_type: event.event_type.into(),
        data: event.data,
        metadata: event.metadata,
    };
    let stream = "users-7";
    let appended = app.store.append(stream, Expected::NoStream, vec![damaged]);
    appended.await.unwrap();
    let damaged = json!({"id": "7"});
    let answer = app.get(&damaged).await;
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(app.delete(&damaged).await, StatusCode::NO_CONTENT);
    assert!(!app.is_there(&damaged).await);
    assert_eq!(app.delete(&damaged).await, StatusCode::NOT_FOUND);
}

/// Otherwise each start of an eraser would read the whole log.
#[tokio::test]
async fn an_erasers_checkpoint_moves_although_no_user_is_deleted() {
    let app = spawn_app().await;
    app.created("ada").await;
    let other = || NewEvent {
        id: Uuid::new_v4(),
        event_type: "Other.v1".into(),
        data: "{}".into(),
        metadata: Bytes::new(),
    };
    for _ in 0..4 {
        let others = std::iter::repeat_with(other).take(400).collect();
        let appended = app.store.append("other-1", Expected::Any, others);
        appended.await.unwrap();
    }
    let _eraser = app.eraser();
    until_checkpoint(
        &app,
        Position {
            commit: 1,
            prepare: 1,
        },
    )
    .await;
}

#[tokio::test]
async fn an_erasers_checkpoint_beyond_the_end_of_the_log_is_corrected() {
    let app = spawn_app().await;
    let nowhere = json!({"commit": u64::MAX, "prepare": u64::MAX}).to_string();
    app.append("eraser-users", "EraserCheckpoint.v1", &nowhere)
        .await;
    let ada = app.created("ada").await;
    let position = interrupted_delete(&app, &ada).await;
    publish_up_to(&app, position).await;
    let _eraser = app.eraser();
    until("the stream is tombstoned", || async {
        is_tombstoned(&app, &ada).await.then_some(())
    })
    .await;
    until("the checkpoint is corrected", || async {
        let last = app.store.read_last("eraser-users").await.unwrap()?;
        let data: Value = serde_json::from_slice(&last.data).unwrap();
        (data["commit"].as_u64() == Some(position.commit)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn no_stream_is_deleted_because_of_a_publishers_checkpoint_beyond_the_end_of_the_log() {
    let app = spawn_app().await;
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    let key = key(&app, &eve).await;
    let nowhere = Position {
        commit: u64::MAX,
        prepare: u64::MAX,
    };
    publish_up_to(&app, nowhere).await;
    interrupted_delete(&app, &ada).await;
    interrupted_delete(&app, &eve).await;
    let _eraser = app.eraser();
    until("the second key is destroyed", || async {
        is_destroyed(&app, key).await.then_some(())
    })
    .await;
    assert!(!is_tombstoned(&app, &ada).await);
}

#[tokio::test]
async fn the_stream_of_a_parked_user_is_kept() {
    let app = spawn_app().await;
    let (ada, eve) = (app.created("ada").await, app.created("eve").await);
    interrupted_delete(&app, &ada).await;
    let Position { commit, prepare } = interrupted_delete(&app, &eve).await;
    let parked = json!([{"stream": format!("users-{}", id(&ada)), "revision": 1}]);
    let checkpoint = json!({"commit": commit, "prepare": prepare, "parked": parked}).to_string();
    app.append("publisher-users", "PublisherCheckpoint.v1", &checkpoint)
        .await;
    let _eraser = app.eraser();
    until("the other stream is tombstoned", || async {
        is_tombstoned(&app, &eve).await.then_some(())
    })
    .await;
    assert!(!is_tombstoned(&app, &ada).await);
}
