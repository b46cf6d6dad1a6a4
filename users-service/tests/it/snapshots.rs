//! What a user with a long history costs, counted in the events that the store reads.

use crate::support::{App, id, spawn_app, until, user};
use event_streams::{Direction, Expected, NewEvent, ReadError, RecordedEvent};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio_util::task::AbortOnDropHandle;
use users_service::command::user_histories::SNAPSHOT_EVERY;
use users_service::domain::{Changes, Claim, GivenName, ReservationName, UserEvent, UserId};
use users_service::privacy::subject_keys::Lookup;
use users_service::stored_event::{StoredEvent, snapshot_stream, user_stream};
use uuid::Uuid;

/// How many events one append has.
const SET: usize = 500;
/// The events of a long history, and how many of them one read returns.
const LONG: usize = 20_000;
const PAGE: usize = 500;

fn number(user: &Value) -> UserId {
    id(user).parse().unwrap()
}

/// A user with this many more events, written as the service would have written them.
async fn with_history(app: &App, username: &str, events: usize) -> Value {
    let user = app.created(username).await;
    let created = app.events(&user_stream(number(&user))).await.remove(0);
    let metadata: Value = serde_json::from_slice(&created.metadata).unwrap();
    let claim = Claim {
        reservation: ReservationName::new(metadata["reservation"].as_str().unwrap()),
        revision: 0,
    };
    let key = crate::erasing::key(app, &user).await;
    let Lookup::Found(key) = app.keys.find(key).await.unwrap() else {
        panic!("the user has no key");
    };
    let mut revision = 0;
    for first in (0..events).step_by(SET) {
        let set = first..events.min(first + SET);
        let patched = |index: usize| {
            let event = UserEvent::Patched {
                changes: Changes {
                    given_name: GivenName::parse(format!("Ada {index}")).ok(),
                    ..Changes::default()
                },
                claim: claim.clone(),
            };
            StoredEvent::encode(Uuid::new_v4(), number(&user), &event, &key)
        };
        let events: Vec<NewEvent> = set.map(patched).collect();
        let stream = user_stream(number(&user));
        let appended = app
            .store
            .append(&stream, Expected::Revision(revision), events);
        revision = appended.await.unwrap().revision;
    }
    user
}

async fn snapshot(app: &App, user: &Value) -> Option<RecordedEvent> {
    app.store
        .read_last(&snapshot_stream(number(user)))
        .await
        .unwrap()
}

async fn until_snapshot(app: &App, user: &Value, revision: u64) {
    until("the snapshot is written", || async {
        let data: Value = serde_json::from_slice(&snapshot(app, user).await?.data).unwrap();
        (data["revision"].as_u64()? >= revision).then_some(())
    })
    .await;
}

/// The events that the store reads, and the calls that it answers, for this work.
async fn cost<T>(app: &App, work: impl Future<Output = T>) -> (T, u64, u64) {
    let (events, calls) = (app.events_read().await, app.store_calls().await);
    let done = work.await;
    (
        done,
        app.events_read().await - events,
        app.store_calls().await - calls,
    )
}

/// Asserts that each work costs the last events, fewer than a snapshot apart, and one snapshot.
fn assert_short((events, calls): (u64, u64), what: &str) {
    assert!(
        events <= SNAPSHOT_EVERY as u64,
        "{what} read {events} events"
    );
    assert!(calls <= 2, "{what} took {calls} calls");
}

#[tokio::test]
async fn a_user_with_many_events_costs_a_snapshot_and_a_few_events_however_many_there_are() {
    let app = spawn_app().await;
    for events in [1_000, 100_000] {
        let ada = with_history(&app, &format!("ada{events}"), events).await;
        let (answer, first, _) = cost(&app, app.get(&ada)).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(first > events as u64, "the first read sees all events");
        until_snapshot(&app, &ada, events as u64).await;

        let (answer, read, calls) = cost(&app, app.get(&ada)).await;
        assert_short((read, calls), "GET");
        let shown: Value = answer.json().await.unwrap();
        assert_eq!(shown["given_name"], format!("Ada {}", events - 1));
        let patch = json!({"given_name": "Augusta"});
        let (status, read, calls) = cost(&app, app.patch(&ada, &patch)).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_short((read, calls), "PATCH");
        let taken = user(&format!("ada{events}"));
        let (answer, read, _) = cost(&app, app.create(&taken)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT);
        // The rival also reads the reservation.
        assert!(
            read <= SNAPSHOT_EVERY as u64 + 1,
            "a rival read {read} events"
        );
        let (status, read, calls) = cost(&app, app.delete(&ada)).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        assert_short((read, calls), "DELETE");
    }
}

/// The runtime of a test has one thread, which all requests of this test share, and the store too.
#[tokio::test]
async fn a_long_history_does_not_hold_up_the_other_requests_of_its_thread() {
    let app = spawn_app().await;
    let ada = with_history(&app, "ada", LONG).await;
    let eve = number(&app.created("eve").await);
    let answered = Arc::new(AtomicUsize::new(0));
    let others = {
        let (handler, answered) = (app.handler.clone(), Arc::clone(&answered));
        async move {
            loop {
                handler.get(eve).await.unwrap();
                answered.fetch_add(1, Ordering::SeqCst);
            }
        }
    };
    let before = app.store_calls().await;
    let others = AbortOnDropHandle::new(tokio::spawn(others));
    app.handler.get(number(&ada)).await.unwrap();
    let (answered, pages) = (answered.load(Ordering::SeqCst), LONG / PAGE);
    drop(others);
    // Each answer to the others takes one call. All other calls are reads of a page, which others need not wait for.
    let calls = usize::try_from(app.store_calls().await - before).unwrap();
    let reads = calls - answered;
    assert!(reads >= pages, "{reads} reads, so a page is too long");
    assert!(
        answered >= pages / 2,
        "{answered} answers during {reads} reads"
    );
}

#[tokio::test]
async fn a_user_whose_key_is_lost_is_deleted_from_the_snapshot() {
    let app = spawn_app().await;
    let ada = with_history(&app, "ada", 2_000).await;
    app.get(&ada).await;
    until_snapshot(&app, &ada, 2_000).await;
    let key = crate::erasing::key(&app, &ada).await;
    crate::erasing::lose(&app, key).await;
    assert_eq!(
        app.get(&ada).await.status(),
        StatusCode::SERVICE_UNAVAILABLE
    );
    let (status, read, calls) = cost(&app, app.delete(&ada)).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    assert_short((read, calls), "DELETE");
    assert_eq!(app.create(&user("ada")).await.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn changes_write_snapshots_so_that_no_read_is_ever_long() {
    let every = 16;
    let app = spawn_app()
        .await
        .with_handler(|handler| handler.snapshot_every(every));
    let ada = app.created("ada").await;
    for change in 1..=200_u64 {
        let patch = json!({"given_name": format!("Ada {change}")});
        // The snapshots of earlier changes cost this one nothing.
        app.handler.snapshots_settled().await;
        let (status, read, calls) = cost(&app, app.patch(&ada, &patch)).await;
        assert_eq!(status, StatusCode::NO_CONTENT);
        // The snapshot that the change writes may be read meanwhile.
        assert!(
            read <= every as u64 + 1,
            "change {change} read {read} events"
        );
        assert!(calls <= 5, "change {change} took {calls} calls");
        if change >= 16 {
            until_snapshot(&app, &ada, change - 9).await;
        }
    }
    let shown: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(shown["given_name"], "Ada 200");
    let stream = snapshot_stream(number(&ada));
    let kept = app
        .store
        .read(&stream, Direction::ForwardFrom(0), 10)
        .await
        .unwrap();
    assert_eq!(kept.len(), 1, "only the last snapshot is kept");
}

#[tokio::test]
async fn a_snapshot_that_does_not_belong_to_the_stream_is_not_used() {
    let app = spawn_app().await;
    let ada = with_history(&app, "ada", 300).await;
    app.get(&ada).await;
    until_snapshot(&app, &ada, 300).await;
    let real = snapshot(&app, &ada).await.unwrap();
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    let events = app.events(&user_stream(number(&ada))).await;
    let last = events.last().unwrap();
    let (id, revision) = (json!(last.id), json!(last.revision));
    // Each of these would hide the last change if it were used.
    let planted = [
        json!({"event_id": Uuid::new_v4(), "revision": revision}),
        json!({"revision": revision}),
        json!({"event_id": id, "revision": 100_000}),
        json!({"event_id": id, "revision": revision, "epoch": 7}),
        json!({"event_id": id, "revision": revision, "standing": "unknown"}),
    ];
    for members in planted {
        let mut data: Value = serde_json::from_slice(&real.data).unwrap();
        let data_members = data.as_object_mut().unwrap();
        data_members.extend(members.as_object().unwrap().clone());
        let wrong = NewEvent {
            id: Uuid::new_v4(),
            event_type: "UserSnapshot.v1".into(),
            data: data.to_string().into(),
            metadata: real.metadata.clone(),
        };
        let stream = snapshot_stream(number(&ada));
        let appended = app.store.append(&stream, Expected::Any, vec![wrong]);
        appended.await.unwrap();
        let shown: Value = app.get(&ada).await.json().await.unwrap();
        assert_eq!(shown["given_name"], "Augusta", "{members}");
        // The read replaces the wrong snapshot.
        until("there is a right snapshot", || async {
            let last = snapshot(&app, &ada).await?;
            let last: Value = serde_json::from_slice(&last.data).unwrap();
            let is_right = last["epoch"] == 0 && last["standing"] == "active";
            (is_right && last["event_id"] == id && last["revision"] == revision).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn an_erasure_tombstones_the_snapshots_also_those_that_never_were() {
    let app = spawn_app().await;
    let (ada, eve) = (
        with_history(&app, "ada", 300).await,
        app.created("eve").await,
    );
    app.get(&ada).await;
    until_snapshot(&app, &ada, 300).await;
    let _eraser = app.eraser();
    for user in [&ada, &eve] {
        assert_eq!(app.delete(user).await, StatusCode::NO_CONTENT);
        let last = app
            .store
            .read_last(&user_stream(number(user)))
            .await
            .unwrap();
        crate::erasing::publish_up_to(&app, last.unwrap().position).await;
        until("the snapshots are tombstoned", || async {
            let last = app.store.read_last(&snapshot_stream(number(user))).await;
            (last == Err(ReadError::StreamDeleted)).then_some(())
        })
        .await;
        until("the user's stream is tombstoned", || async {
            let last = app.store.read_last(&user_stream(number(user))).await;
            (last == Err(ReadError::StreamDeleted)).then_some(())
        })
        .await;
    }
}

#[tokio::test]
async fn a_snapshot_shows_no_name_and_what_needs_no_key() {
    let app = spawn_app().await;
    let ada = with_history(&app, "ada", 300).await;
    app.get(&ada).await;
    until_snapshot(&app, &ada, 300).await;
    let snapshot = snapshot(&app, &ada).await.unwrap();
    let data: Value = serde_json::from_slice(&snapshot.data).unwrap();
    assert_eq!(data["standing"], "active");
    assert_eq!(
        (&data["revision"], &data["changed"]),
        (&json!(300), &json!(300))
    );
    assert_eq!(
        data["key"],
        crate::erasing::key(&app, &ada).await.to_string()
    );
    let text = format!("{:?} {:?}", snapshot.data, snapshot.metadata).to_lowercase();
    assert!(
        !text.contains("lovelace") && !text.contains("ada"),
        "{text}"
    );
}

#[tokio::test]
async fn a_change_that_was_repeated_after_a_snapshot_is_not_made_again() {
    let app = spawn_app()
        .await
        .with_handler(|handler| handler.snapshot_every(16));
    let ada = app.created("ada").await;
    let patch = async || {
        let patch = app.request(Method::PATCH, &format!("/{}", id(&ada)));
        let patch = patch
            .header("Idempotency-Key", "k")
            .json(&json!({"given_name": "Augusta"}));
        patch.send().await.unwrap()
    };
    assert_eq!(patch().await.status(), StatusCode::NO_CONTENT);
    for change in 0..60 {
        app.patch(&ada, &json!({"given_name": format!("Ada {change}")}))
            .await;
    }
    until_snapshot(&app, &ada, 40).await;
    let repeated = patch().await;
    assert_eq!(repeated.headers()["idempotency-replayed"], "true");
    let shown: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(shown["given_name"], "Ada 59");
}
