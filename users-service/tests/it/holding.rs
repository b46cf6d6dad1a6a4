//! Held users: what an operator can do about an event that cannot be applied, whatever is killed meanwhile.

use crate::bus::directory::topology;
use crate::bus::{Bus, listed, read_model, repair, until_listed, view};
use crate::parking::{decision, decisions};
use crate::projecting::take_and_die;
use crate::support::{App, id, on_both, spawn_app, until};
use bytes::Bytes;
use event_streams::{Expected, NewEvent};
use serde_json::{Value, json};
use sqlx::AnyPool;
use std::time::Duration;
use users_service::database::Dialect;
use users_service::domain::UserId;
use users_service::operations::OperationError;
use users_service::projection::holds;
use users_service::projection::view::HeldUser;
use users_service::read_model::ERASED;

/// So long that no test sees a second look at the log.
const NEVER: Duration = Duration::from_hours(10);

fn number(user: &Value) -> UserId {
    id(user).parse().unwrap()
}

/// Appends a change of the user whose sealed name is damaged.
pub(crate) async fn damage(app: &App, user: &Value) {
    let created = app.events(&format!("users-{}", id(user))).await.remove(0);
    let mut data: Value = serde_json::from_slice(&created.data).unwrap();
    data["sealed"]["username"] = "AAAA".into();
    append(
        app,
        user,
        "UserPatched.v1",
        (data.to_string(), created.metadata),
    )
    .await;
}

async fn append(
    app: &App,
    user: &Value,
    event_type: &'static str,
    (data, metadata): (String, Bytes),
) {
    let event = NewEvent {
        id: uuid::Uuid::new_v4(),
        event_type: event_type.into(),
        data: data.into(),
        metadata,
    };
    let stream = format!("users-{}", id(user));
    let appended = app.store.append(&stream, Expected::Any, vec![event]);
    appended.await.unwrap();
}

/// A user who is held because of a damaged change. A later change gives the user another name.
pub(crate) async fn unreadable(app: &App) -> Value {
    let ada = app.created("ada").await;
    damage(app, &ada).await;
    let created = app.events(&format!("users-{}", id(&ada))).await.remove(0);
    let data = json!({"id": id(&ada)}).to_string();
    append(app, &ada, "RenameFenced.v1", (data, created.metadata)).await;
    let repair = repair(app, &view(app).await);
    let standing = repair.catch_up(number(&ada), false).await.unwrap();
    assert!(standing.held);
    ada
}

on_both! {
    a_dropped_event_is_skipped_and_later_ones_are_applied,
    a_user_whose_creation_is_dropped_is_not_listed_and_holds_up_nothing,
    a_user_with_two_events_that_cannot_be_applied_is_held_at_the_second,
    a_replay_that_breaks_off_keeps_its_user_held,
    a_held_user_who_is_deleted_during_a_replay_is_erased,
    attempts_are_kept_until_one_succeeds_even_if_the_event_is_applied_meanwhile,
    a_store_that_is_away_uses_up_no_attempt_and_heals,
    keys_that_are_away_use_up_no_attempt_and_the_view_heals,
    a_message_that_was_lost_is_an_alarm_until_it_comes,
}

async fn a_dropped_event_is_skipped_and_later_ones_are_applied(app: App) {
    let bus = Bus::new().await;
    let (view, model) = (view(&app).await, read_model(&app).await);
    let repair = repair(&app, &view);
    bus.broker.declare(&topology()).await.unwrap();
    let _projector = bus.projector(&app, &view, NEVER);
    let ada = unreadable(&app).await;
    let user = number(&ada);
    let held = HeldUser {
        user,
        revision: 1,
        reason: "a sealed name of this event is damaged".to_owned(),
    };
    let listed_holds = holds::list(view.generation()).await.unwrap();
    assert_eq!(
        (&listed_holds.users[..], listed_holds.total),
        (&[held.clone()][..], 1)
    );
    assert_eq!(holds::replay(&repair, user).await.unwrap(), Some(held));
    let decision = decision("a test damaged it");
    let dropped = holds::drop_event(&repair, user, Some(1), &decision).await;
    assert_eq!(dropped.unwrap().still_held, None);
    assert_eq!(view.standing(user).await.unwrap().revision(), Some(2));
    // A later event comes by the queue, and a rebuilt row skips the event again.
    app.append(&format!("users-{}", id(&ada)), "RenameFenced.v1", "{}")
        .await;
    bus.publish(&app, &ada, &[3]).await;
    until("the later event is applied", async || {
        (view.standing(user).await.unwrap().revision() == Some(3)).then_some(())
    })
    .await;
    let rebuilt = repair.catch_up(user, true).await.unwrap();
    assert_eq!((rebuilt.held, rebuilt.revision()), (false, Some(3)));
    assert_eq!(
        listed(&app, &model).await,
        [(id(&ada).to_owned(), "ada".to_owned())]
    );
    let not_held = holds::drop_event(&repair, user, None, &decision).await;
    assert!(matches!(not_held, Err(OperationError::NotHeld(_))));
    let expected = json!({"by": "grace", "read_model": "directory", "user": id(&ada), "revision": 1, "type": "UserPatched.v1", "reason": "a test damaged it"});
    assert_eq!(decisions(&app).await, [expected]);
}

async fn a_user_whose_creation_is_dropped_is_not_listed_and_holds_up_nothing(app: App) {
    let (view, model) = (view(&app).await, read_model(&app).await);
    let repair = repair(&app, &view);
    app.append("users-77", "UserCreated.v1", "{}").await;
    app.append("users-77", "RenameFenced.v1", "{}").await;
    let user = UserId::new(77);
    assert!(repair.catch_up(user, false).await.unwrap().held);
    let dropped = holds::drop_event(&repair, user, None, &decision("a test")).await;
    assert_eq!(dropped.unwrap().still_held, None);
    assert_eq!(view.standing(user).await.unwrap().revision(), Some(1));
    assert_eq!(listed(&app, &model).await, []);
}

async fn a_user_with_two_events_that_cannot_be_applied_is_held_at_the_second(app: App) {
    let view = view(&app).await;
    let repair = repair(&app, &view);
    let ada = app.created("ada").await;
    damage(&app, &ada).await;
    damage(&app, &ada).await;
    let user = number(&ada);
    assert!(repair.catch_up(user, false).await.unwrap().held);
    let decision = decision("a test damaged it");
    let drop = |revision| holds::drop_event(&repair, user, Some(revision), &decision);
    let (one, other) = tokio::join!(drop(1), drop(1));
    // Both may drop the first event. Neither drops the second one.
    assert!(one.is_ok() || other.is_ok());
    let held = holds::list(view.generation()).await.unwrap().users;
    assert_eq!(held[0].revision, 2);
    assert_eq!(drop(2).await.unwrap().still_held, None);
}

/// A replay of many pages breaks off after the first one, as if its process were killed.
async fn a_replay_that_breaks_off_keeps_its_user_held(app: App) {
    let view = view(&app).await;
    let repair = repair(&app, &view);
    let ada = app.created("ada").await;
    let stream = format!("users-{}", id(&ada));
    for _ in 0..13 {
        let fence = || NewEvent {
            id: uuid::Uuid::new_v4(),
            event_type: "RenameFenced.v1".into(),
            data: "{}".into(),
            metadata: Bytes::new(),
        };
        let fences = std::iter::repeat_with(fence).take(50).collect();
        app.store
            .append(&stream, Expected::Any, fences)
            .await
            .unwrap();
    }
    let user = number(&ada);
    view.hold(user, 0, "a test").await.unwrap();
    let database = app.tables().await;
    let (stop, go_on) = match app.databases.dialect() {
        Dialect::Sqlite => (
            "CREATE TRIGGER stop BEFORE UPDATE ON ledger WHEN NEW.revision > 600
             BEGIN SELECT RAISE(ABORT, 'killed'); END",
            "DROP TRIGGER stop",
        ),
        Dialect::Postgres => (
            "ALTER TABLE ledger ADD CONSTRAINT stop CHECK (revision <= 600)",
            "ALTER TABLE ledger DROP CONSTRAINT stop",
        ),
    };
    sqlx::query(stop).execute(&database).await.unwrap();
    holds::replay(&repair, user).await.unwrap_err();
    let standing = view.standing(user).await.unwrap();
    assert_eq!((standing.held, standing.revision()), (true, Some(499)));
    sqlx::query(go_on).execute(&database).await.unwrap();
    assert_eq!(holds::replay(&repair, user).await.unwrap(), None);
    let standing = view.standing(user).await.unwrap();
    assert_eq!((standing.held, standing.revision()), (false, Some(650)));
}

async fn a_held_user_who_is_deleted_during_a_replay_is_erased(app: App) {
    let view = view(&app).await;
    let repair = repair(&app, &view);
    let ada = unreadable(&app).await;
    let user = number(&ada);
    let (replayed, _) = tokio::join!(holds::replay(&repair, user), app.delete(&ada));
    replayed.unwrap();
    let end = app.log().await.last().unwrap().position;
    repair.complete(end).await.unwrap();
    let standing = view.standing(user).await.unwrap();
    assert_eq!((standing.held, standing.revision()), (false, Some(ERASED)));
    let gone = holds::replay(&repair, user).await;
    assert!(matches!(gone, Err(OperationError::NotHeld(_))));
}

/// A user whose only message was taken by a process that died, so that each further attempt at it is counted.
async fn taken_once(app: &App) -> (Bus, Value) {
    let bus = Bus::new().await;
    bus.broker.declare(&topology()).await.unwrap();
    let ada = app.created("ada").await;
    bus.publish(app, &ada, &[0]).await;
    take_and_die(&bus).await;
    (bus, ada)
}

/// Waits until triggers have counted more rounds than a message has attempts.
async fn until_rounds(database: &AnyPool) {
    until("a message is tried again and again", async || {
        let rounds = sqlx::query_scalar("SELECT count(*) FROM rounds");
        let rounds: i64 = rounds.fetch_one(database).await.unwrap();
        (rounds > 5).then_some(())
    })
    .await;
}

/// The view cannot be written and neither can the count of attempts be taken back, as on a disk that is full.
#[tokio::test]
async fn a_file_that_fails_after_an_attempt_was_counted_uses_up_no_attempt() {
    let app = spawn_app().await;
    let (bus, ada) = taken_once(&app).await;
    let (view, model) = (view(&app).await, read_model(&app).await);
    let database = app.tables().await;
    for statement in [
        "CREATE TABLE rounds (round INTEGER)",
        "CREATE TRIGGER full_users BEFORE INSERT ON users BEGIN SELECT RAISE(ABORT, 'full'); END",
        // The statement fails, and its round is counted all the same.
        "CREATE TRIGGER full_attempts BEFORE UPDATE ON attempts WHEN NEW.attempts < OLD.attempts
         BEGIN INSERT INTO rounds VALUES (1); SELECT RAISE(FAIL, 'full'); END",
    ] {
        sqlx::query(statement).execute(&database).await.unwrap();
    }
    let projector = bus.projector(&app, &view, NEVER);
    until_rounds(&database).await;
    projector.unhealthy("full").await;
    assert!(!view.standing(number(&ada)).await.unwrap().held);
    for trigger in ["full_users", "full_attempts"] {
        let drop = sqlx::AssertSqlSafe(format!("DROP TRIGGER {trigger}"));
        sqlx::query(drop).execute(&database).await.unwrap();
    }
    until_listed(&app, &model, &[(id(&ada), "ada")]).await;
    projector.ready().await;
    assert_eq!(view.attempts((number(&ada), 0)).await.unwrap(), 0);
}

/// Otherwise a message whose event came from the log would kill the process for ever.
async fn attempts_are_kept_until_one_succeeds_even_if_the_event_is_applied_meanwhile(app: App) {
    let (bus, ada) = taken_once(&app).await;
    let view = view(&app).await;
    let event = (number(&ada), 0);
    view.count_attempt(event).await.unwrap();
    let caught_up = repair(&app, &view).catch_up(event.0, false).await;
    caught_up.unwrap();
    assert_eq!(view.standing(event.0).await.unwrap().revision(), Some(0));
    assert_eq!(view.attempts(event).await.unwrap(), 1);
    let _projector = bus.projector(&app, &view, NEVER);
    until("the attempt succeeds", async || {
        (view.attempts(event).await.unwrap() == 0).then_some(())
    })
    .await;
}

/// Another process holds the lock of the database for longer than a writer waits.
#[tokio::test]
async fn a_locked_file_uses_up_no_attempt_and_heals() {
    let app = spawn_app().await;
    let (bus, ada) = taken_once(&app).await;
    let (view, model) = (view(&app).await, read_model(&app).await);
    let database = app.tables().await;
    let lock = database.begin_with("BEGIN IMMEDIATE").await.unwrap();
    let projector = bus.projector(&app, &view, NEVER);
    projector.unhealthy("database is locked").await;
    lock.rollback().await.unwrap();
    until_listed(&app, &model, &[(id(&ada), "ada")]).await;
    projector.ready().await;
    assert_eq!(view.attempts((number(&ada), 0)).await.unwrap(), 0);
    assert_eq!(holds::list(view.generation()).await.unwrap().total, 0);
}

/// The store is away when a redelivered message comes that does not follow its row.
async fn a_store_that_is_away_uses_up_no_attempt_and_heals(mut app: App) {
    let bus = Bus::new().await;
    let view = view(&app).await;
    let repair = repair(&app, &view);
    bus.broker.declare(&topology()).await.unwrap();
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    bus.publish(&app, &ada, &[1]).await;
    take_and_die(&bus).await;
    let mut projector = None;
    app.interrupt_store(async || {
        let role = bus.projector_of(repair.clone(), NEVER);
        role.unhealthy("event store").await;
        projector = Some(role);
    })
    .await;
    let event = (number(&ada), 1);
    until("the event is applied", async || {
        (view.standing(event.0).await.unwrap().revision() == Some(1)).then_some(())
    })
    .await;
    projector.unwrap().ready().await;
    assert_eq!(view.attempts(event).await.unwrap(), 0);
    assert_eq!(holds::list(view.generation()).await.unwrap().total, 0);
}

async fn keys_that_are_away_use_up_no_attempt_and_the_view_heals(app: App) {
    let (bus, ada) = taken_once(&app).await;
    let (view, model) = (view(&app).await, read_model(&app).await);
    let mut keys = app.key_database().await;
    let (away, back) = match app.databases.dialect() {
        Dialect::Sqlite => (
            "ALTER TABLE keys RENAME TO away",
            "ALTER TABLE away RENAME TO keys",
        ),
        Dialect::Postgres => (
            "ALTER SCHEMA subject_keys RENAME TO away",
            "ALTER SCHEMA away RENAME TO subject_keys",
        ),
    };
    sqlx::query(away).execute(&mut keys).await.unwrap();
    let database = app.tables().await;
    let count_rounds = match app.databases.dialect() {
        Dialect::Sqlite => {
            "CREATE TABLE rounds (round INTEGER);
             CREATE TRIGGER discounted AFTER DELETE ON attempts BEGIN INSERT INTO rounds VALUES (1); END"
        }
        Dialect::Postgres => {
            "CREATE TABLE rounds (round INTEGER);
             CREATE RULE discounted AS ON DELETE TO attempts WHERE old.attempts <= 0
                DO ALSO INSERT INTO rounds VALUES (1)"
        }
    };
    sqlx::raw_sql(count_rounds)
        .execute(&database)
        .await
        .unwrap();
    let projector = bus.projector(&app, &view, NEVER);
    projector.unhealthy("the key store failed").await;
    until_rounds(&database).await;
    sqlx::query(back).execute(&mut keys).await.unwrap();
    until_listed(&app, &model, &[(id(&ada), "ada")]).await;
    projector.ready().await;
    assert_eq!(view.attempts((number(&ada), 0)).await.unwrap(), 0);
    assert_eq!(holds::list(view.generation()).await.unwrap().total, 0);
}

async fn a_message_that_was_lost_is_an_alarm_until_it_comes(app: App) {
    let bus = Bus::new().await;
    let (view, model) = (view(&app).await, read_model(&app).await);
    bus.broker.declare(&topology()).await.unwrap();
    let projector = bus.impatient_projector(&app, &view, NEVER);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"username": "augusta"})).await;
    bus.publish(&app, &ada, &[1]).await;
    until_listed(&app, &model, &[(id(&ada), "augusta")]).await;
    let lost = format!("such as that of user {} at revision 0", id(&ada));
    projector.loses(&lost).await;
    bus.publish(&app, &ada, &[0]).await;
    projector.loses_nothing().await;
}
