//! The sweep releases the claims of names that nobody holds, and limits each reservation to its last event.

use crate::former_names::stored_before;
use crate::support::{App, SECRET, create, id, spawn_app, until};
use clap::Parser as _;
use event_streams::{AppendError, Direction, Expected, NewEvent, RecordedEvent};
use eventstore_lite::wire::operations::StartScavengeReq;
use eventstore_lite::wire::operations::operations_client::OperationsClient;
use eventstore_lite::wire::operations::start_scavenge_req::Options;
use futures::StreamExt as _;
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use users_service::config::Arguments;
use users_service::domain::{Changes, Claim, ReservationName, UserEvent, UserId, Username};
use users_service::privacy::pseudonym::UsernameSecret;
use users_service::privacy::subject_keys::Lookup;
use users_service::startup::{Application, Role};
use users_service::stored_event::{Fence, ReservationEvent, StoredEvent, user_stream};
use uuid::Uuid;

/// A pause so short that a second round follows at once.
const SOON: Duration = Duration::from_millis(5);
/// A pause so long that there is one round only.
const NEVER: Duration = Duration::from_hours(10);

const CLAIMED: &str = "UsernameClaimed.v1";
const RELEASED: &str = "UsernameReleased.v1";
const LIMIT: &str = r#"{"$maxCount":1}"#;

fn reservation(username: &str) -> ReservationName {
    let secret: UsernameSecret = SECRET.repeat(32).parse().unwrap();
    secret.reservation(&Username::as_stored(username.to_owned()))
}

async fn append(app: &App, stream: &str, expected: Option<u64>, event: NewEvent) -> u64 {
    let expected = expected.map_or(Expected::NoStream, Expected::Revision);
    let appended = app.store.append(stream, expected, vec![event]).await;
    appended.unwrap().revision
}

/// Claims the name for this user, as a command that dies afterwards does.
async fn claim(app: &App, username: &str, user: u64) {
    let claimed = ReservationEvent::claimed(UserId::new(user)).encode(Uuid::new_v4());
    let name = reservation(username);
    let last = last(app, username).await.map(|last| last.revision);
    append(app, name.as_str(), last, claimed).await;
}

async fn last(app: &App, username: &str) -> Option<RecordedEvent> {
    let name = reservation(username);
    app.store.read_last(name.as_str()).await.unwrap()
}

async fn metadata(app: &App, username: &str) -> Option<RecordedEvent> {
    let metastream = format!("$${}", reservation(username));
    app.store.read_last(&metastream).await.unwrap()
}

async fn until_released(app: &App, username: &str) {
    until("the name is released", || async {
        let last = last(app, username).await?;
        (last.event_type == RELEASED).then_some(())
    })
    .await;
}

/// Waits until the reservation is limited to its last event. Then all events that are earlier in the log were swept, too.
async fn until_limited(app: &App, username: &str) {
    until("the reservation is limited", || async {
        metadata(app, username).await
    })
    .await;
}

async fn user_events(app: &App, user: u64) -> Vec<String> {
    let events = app.events(&format!("users-{user}")).await;
    events.into_iter().map(|event| event.event_type).collect()
}

/// Renames the user up to the commit, and dies before it releases the former name.
async fn interrupted_rename(app: &App, user: &Value, from: &str, to: &str) {
    let owner: UserId = id(user).parse().unwrap();
    let claimed = ReservationEvent::Claimed {
        user: owner,
        leaves: Some(reservation(from)),
    };
    let reservation = reservation(to);
    let claimed = claimed.encode(Uuid::new_v4());
    let revision = append(app, reservation.as_str(), None, claimed).await;
    let key = crate::erasing::key(app, user).await;
    let Lookup::Found(key) = app.keys.find(key).await.unwrap() else {
        panic!("the user has no key");
    };
    let changes = Changes {
        username: Some(Username::parse(to).unwrap()),
        ..Changes::default()
    };
    let claim = Claim {
        reservation,
        revision,
    };
    let patched = UserEvent::Patched { changes, claim };
    let patched = StoredEvent::encode(Uuid::new_v4(), owner, &patched, &key);
    append(app, &user_stream(owner), Some(0), patched).await;
}

#[tokio::test]
async fn the_claim_of_a_refused_creation_is_released() {
    let app = spawn_app().await;
    claim(&app, "ada", 4_711).await;
    let abandoned = Fence::RegistrationAbandoned.encode(Uuid::new_v4(), UserId::new(4_711));
    append(&app, "users-4711", None, abandoned).await;
    let _sweeper = app.sweeper(NEVER);
    until_released(&app, "ada").await;
    assert_eq!(user_events(&app, 4_711).await, ["RegistrationAbandoned.v1"]);
    app.created("ada").await;
}

#[tokio::test]
async fn the_claim_of_a_crashed_creation_is_fenced_and_released_when_two_rounds_have_seen_it() {
    let app = spawn_app().await;
    claim(&app, "ada", 4_711).await;
    app.created("eve").await;
    let first_round = app.sweeper(NEVER);
    until_limited(&app, "eve").await;
    assert_eq!(last(&app, "ada").await.unwrap().event_type, CLAIMED);
    assert!(user_events(&app, 4_711).await.is_empty());
    drop(first_round);
    let _sweeper = app.sweeper(SOON);
    until_released(&app, "ada").await;
    assert_eq!(user_events(&app, 4_711).await, ["RegistrationAbandoned.v1"]);
    let late = NewEvent {
        id: Uuid::new_v4(),
        event_type: "UserCreated.v1".into(),
        data: "{}".into(),
        metadata: bytes::Bytes::new(),
    };
    let commit = app
        .store
        .append("users-4711", Expected::NoStream, vec![late]);
    let refused = commit.await;
    assert!(matches!(refused, Err(AppendError::Conflict { .. })));
    app.created("ada").await;
}

#[tokio::test]
async fn a_claim_of_a_user_with_another_name_is_fenced_and_released() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let owner = id(&ada).parse().unwrap();
    claim(&app, "lady", owner).await;
    let _sweeper = app.sweeper(SOON);
    until_released(&app, "lady").await;
    let events = user_events(&app, owner).await;
    assert_eq!(events, ["UserCreated.v1", "RenameFenced.v1"]);
    assert_eq!(last(&app, "ada").await.unwrap().event_type, CLAIMED);
    let rename = json!({"username": "countess"});
    assert_eq!(app.patch(&ada, &rename).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn the_name_that_an_interrupted_rename_left_is_released_although_it_was_swept_before() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    app.created("eve").await;
    let _sweeper = app.sweeper(SOON);
    until_limited(&app, "eve").await;
    interrupted_rename(&app, &ada, "ada", "lady").await;
    until_released(&app, "ada").await;
    assert_eq!(last(&app, "lady").await.unwrap().event_type, CLAIMED);
    let read: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(read["username"], "lady");
    app.created("ada").await;
}

#[tokio::test]
async fn the_name_that_an_interrupted_rename_left_is_released_although_the_user_is_deleted() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    interrupted_rename(&app, &ada, "ada", "lady").await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    let stream = format!("users-{}", id(&ada));
    app.store.tombstone(&stream, Expected::Any).await.unwrap();
    let _sweeper = app.sweeper(NEVER);
    until_released(&app, "ada").await;
    assert_eq!(last(&app, "lady").await.unwrap().event_type, RELEASED);
}

#[tokio::test]
async fn a_rename_by_the_service_names_the_reservation_that_it_leaves() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let rename = json!({"username": "lady"});
    assert_eq!(app.patch(&ada, &rename).await, StatusCode::NO_CONTENT);
    let claimed = ReservationEvent::decode(&last(&app, "lady").await.unwrap());
    let expected = ReservationEvent::Claimed {
        user: id(&ada).parse().unwrap(),
        leaves: Some(reservation("ada")),
    };
    assert_eq!(claimed, Ok(expected));
}

#[tokio::test]
async fn a_reservation_is_limited_once_and_the_claim_of_a_holder_is_left_alone() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let sweeper = app.sweeper(SOON);
    until_limited(&app, "ada").await;
    // So short a pause would fence renames in flight.
    drop(sweeper);
    for round in 0..3 {
        let away = json!({"username": format!("lady{round}")});
        app.patch(&ada, &away).await;
        app.patch(&ada, &json!({"username": "ada"})).await;
    }
    app.created("eve").await;
    let sweeper = app.sweeper(SOON);
    until_limited(&app, "eve").await;
    drop(sweeper);
    // A sweeper that has lost its checkpoint looks at everything again.
    app.store
        .delete("sweep-users", Expected::Any)
        .await
        .unwrap();
    app.created("bob").await;
    let _sweeper = app.sweeper(SOON);
    until_limited(&app, "bob").await;
    let limit = metadata(&app, "ada").await.unwrap();
    assert_eq!((limit.revision, &*limit.data), (0, LIMIT.as_bytes()));
    let owner = id(&ada).parse().unwrap();
    let claimed = ReservationEvent::decode(&last(&app, "ada").await.unwrap()).unwrap();
    assert!(
        matches!(claimed, ReservationEvent::Claimed { user, .. } if user == UserId::new(owner))
    );
    assert!(
        !user_events(&app, owner)
            .await
            .contains(&"RenameFenced.v1".to_owned())
    );
    assert_eq!(app.events(reservation("ada").as_str()).await.len(), 1);
}

#[tokio::test]
async fn other_metadata_of_a_reservation_stays() {
    let app = spawn_app().await;
    app.created("ada").await;
    let metastream = format!("$${}", reservation("ada"));
    let others = r#"{"$cacheControl":60,"team":"names"}"#;
    app.append(&metastream, "$metadata", others).await;
    let _sweeper = app.sweeper(SOON);
    let limit = until("the reservation is limited", || async {
        metadata(&app, "ada")
            .await
            .filter(|limit| limit.revision == 1)
    })
    .await;
    let limit: Value = serde_json::from_slice(&limit.data).unwrap();
    let expected = json!({"$cacheControl": 60, "$maxCount": 1, "team": "names"});
    assert_eq!(limit, expected);
}

#[tokio::test]
async fn what_the_sweep_does_not_understand_is_left_alone_and_stops_nothing() {
    let app = spawn_app().await;
    for event_type in ["Policy.v1", RELEASED] {
        app.append("username-policy", event_type, "{}").await;
    }
    let ada = app.created("ada").await;
    let bob = app.created("bob").await;
    // Events of a newer version, or of nobody of ours.
    app.append(reservation("ada").as_str(), "UsernamePromised.v1", "{}")
        .await;
    app.append(&format!("users-{}", id(&bob)), "UserPromoted.v9", "{}")
        .await;
    claim(&app, "lady", id(&bob).parse().unwrap()).await;
    claim(&app, "last", 4_711).await;
    let _sweeper = app.sweeper(SOON);
    until_released(&app, "last").await;
    let last_of_ada = last(&app, "ada").await.unwrap();
    assert_eq!(last_of_ada.event_type, "UsernamePromised.v1");
    assert_eq!(last(&app, "lady").await.unwrap().event_type, CLAIMED);
    let policy = app.store.read_last("$$username-policy").await.unwrap();
    assert_eq!(policy, None);
    assert_eq!(app.events("username-policy").await.len(), 2);
    assert_eq!(app.get(&ada).await.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_reservation_of_a_former_folding_is_swept_like_any_other() {
    let app = spawn_app().await;
    let name = "\u{16EA1}\u{16EA2}\u{16EA3}";
    let capitals = stored_before(&app, 1_001, name).await;
    let secret: UsernameSecret = SECRET.repeat(32).parse().unwrap();
    let former = |name: &str| {
        let username = Username::as_stored(name.to_owned());
        secret.former_reservation(&username).unwrap()
    };
    let abandoned = former("\u{16EA4}\u{16EA5}\u{16EA6}");
    let claimed = ReservationEvent::claimed(UserId::new(4_711)).encode(Uuid::new_v4());
    append(&app, abandoned.as_str(), None, claimed).await;
    let _sweeper = app.sweeper(SOON);
    let last = |name: ReservationName| {
        let store = app.store.clone();
        async move { store.read_last(name.as_str()).await.unwrap().unwrap() }
    };
    until("the claim is released", || async {
        let last = last(abandoned.clone()).await;
        (last.event_type == RELEASED).then_some(())
    })
    .await;
    assert_eq!(last(former(name)).await.event_type, CLAIMED);
    let patch = json!({"username": capitals["username"], "given_name": "Changed"});
    assert_eq!(app.patch(&capitals, &patch).await, StatusCode::NO_CONTENT);
}

/// Runs a scavenge to its end: then another one can start.
async fn scavenge(app: &App) {
    let url = app.store_url().replace("esdb://", "http://");
    let url = url.split('?').next().unwrap().to_owned();
    let mut operations = OperationsClient::connect(url).await.unwrap();
    let mut start = async || {
        let options = Some(Options {
            thread_count: 1,
            start_from_chunk: 0,
        });
        let started = operations.start_scavenge(StartScavengeReq { options });
        started.await.unwrap().into_inner().scavenge_id
    };
    let first = start().await;
    while start().await == first {
        tokio::task::yield_now().await;
    }
}

/// Whether a file of the store has this text.
fn is_in_the_store(app: &App, text: &str) -> bool {
    let files = std::fs::read_dir(app.folder.path().join("store")).unwrap();
    files
        .map(|file| std::fs::read(file.unwrap().path()).unwrap_or_default())
        .any(|bytes| {
            bytes
                .windows(text.len())
                .any(|found| found == text.as_bytes())
        })
}

#[tokio::test]
async fn after_a_scavenge_nothing_says_who_held_a_name() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let claim = format!(r#"{{"user_id":"{}"}}"#, id(&ada));
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    // The name has a new holder, and another former one who is alive.
    let eve = app.created("ada").await;
    assert_eq!(
        app.patch(&eve, &json!({"username": "eve"})).await,
        StatusCode::NO_CONTENT
    );
    let bob = app.created("ada").await;
    let _sweeper = app.sweeper(SOON);
    until_limited(&app, "ada").await;
    until_limited(&app, "eve").await;
    assert!(is_in_the_store(&app, &claim), "the search finds nothing");
    scavenge(&app).await;
    until("the claim is in no file", || async {
        (!is_in_the_store(&app, &claim)).then_some(())
    })
    .await;
    let name = reservation("ada").to_string();
    let page = app.store.read_all(&[&name], None, 100).await.unwrap();
    let left: Vec<_> = page.events.iter().map(|event| &event.data).collect();
    assert_eq!(left, [format!(r#"{{"user_id":"{}"}}"#, id(&bob)).as_str()]);
    let stream = app.store.read(&name, Direction::ForwardFrom(0), 100);
    assert_eq!(stream.await.unwrap(), page.events);
    // The limit changes nothing for commands.
    assert_eq!(app.delete(&bob).await, StatusCode::NO_CONTENT);
    app.created("ada").await;
}

/// Waits until the store has so many events, without a call that would be counted.
async fn until_written(app: &App, events: u64) {
    until("the events are written", || async {
        (app.events_written().await >= events).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_sweeper_goes_on_where_another_one_was_killed() {
    let app = spawn_app().await;
    for number in 0..50 {
        create(&app.handler, &format!("user{number}"))
            .await
            .unwrap();
    }
    claim(&app, "ada", 4_711).await;
    create(&app.handler, "last").await.unwrap();
    let written = app.events_written().await;
    let killed = app.sweeper(NEVER);
    // The limits of 51 reservations, the checkpoint, and its own limit.
    until_written(&app, written + 53).await;
    drop(killed);
    let calls = app.store_calls().await;
    let _sweeper = app.sweeper(SOON);
    // The fence, the release, the limit of the reservation, and the checkpoint.
    until_written(&app, written + 57).await;
    assert_eq!(last(&app, "ada").await.unwrap().event_type, RELEASED);
    let calls = app.store_calls().await - calls;
    assert!(calls < 40, "it began anew: {calls} calls");
}

#[tokio::test]
async fn a_sweep_of_nothing_new_appends_nothing() {
    let app = spawn_app().await;
    app.created("ada").await;
    let written = app.events_written().await;
    let _sweeper = app.sweeper(SOON);
    // The limit of the reservation, the checkpoint, and its own limit.
    until_written(&app, written + 3).await;
    let calls = app.store_calls().await;
    until("there were more rounds", || async {
        (app.store_calls().await > calls + 10).then_some(())
    })
    .await;
    assert_eq!(app.events_written().await, written + 3);
}

const USERS: u64 = 1_000;
/// Checkpoints of a sweep of all of them.
const CHECKPOINTS: u64 = 10;

#[tokio::test]
async fn a_thousand_users_cost_two_reads_each_and_one_append_once() {
    let app = spawn_app().await;
    let create = async |number| {
        let created = create(&app.handler, &format!("user{number}")).await;
        created.map(drop).unwrap();
    };
    let creating = futures::stream::iter(0..USERS)
        .map(create)
        .buffer_unordered(32);
    creating.collect::<Vec<()>>().await;
    let swept = async |appends| {
        let (written, calls) = (app.events_written().await, app.store_calls().await);
        let sweeper = app.sweeper(NEVER);
        until_written(&app, written + appends).await;
        drop(sweeper);
        app.store_calls().await - calls
    };
    // The owner and the metadata of each; the pages of the log, and the checkpoint.
    let reads = 2 * USERS..=2 * USERS + CHECKPOINTS + 2;
    let first = swept(USERS + CHECKPOINTS + 1).await;
    assert!(reads.contains(&first), "{first} calls");
    let nowhere = json!({"commit": u64::MAX, "prepare": u64::MAX}).to_string();
    app.append("sweep-users", "SweepCheckpoint.v1", &nowhere)
        .await;
    let again = swept(CHECKPOINTS).await;
    assert!(reads.contains(&again), "{again} calls");
    let limits = app.store.read_all(&["$$username-"], None, 10_000).await;
    assert_eq!(limits.unwrap().events.len() as u64, USERS);
}

/// The role in a thread, with its health at this URL.
async fn eraser_role(app: &App, shutdown: CancellationToken) -> String {
    let secret = app.folder.path().join("secret");
    std::fs::write(&secret, "0c".repeat(32)).unwrap();
    let (secret, data) = (secret.display(), app.folder.path().display());
    let arguments = format!(
        "users-service eraser --eventstore-url {} --data {data} --master-key-file {secret} --sweep-seconds 1",
        app.store_url()
    );
    let Arguments::Eraser(config) = Arguments::parse_from(arguments.split(' ')) else {
        panic!("another role");
    };
    let application = Application::build(Role::Eraser, &config).await.unwrap();
    let url = format!("http://{}", application.address());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(application.run(shutdown)).unwrap();
    });
    url
}

async fn until_health(url: &str, holds: impl Fn(&str) -> bool) {
    until("the sweep reports its state", || async {
        let answer = reqwest::get(format!("{url}/_readyz")).await.ok()?;
        let body: Value = answer.json().await.ok()?;
        let state = body["dependencies"]["sweep"].as_str()?;
        holds(state).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_role_eraser_sweeps_and_goes_on_after_the_store_was_away() {
    let mut app = spawn_app().await;
    claim(&app, "ada", 4_711).await;
    let shutdown = CancellationToken::new();
    let _stops = shutdown.clone().drop_guard();
    let url = eraser_role(&app, shutdown).await;
    until_released(&app, "ada").await;
    until_health(&url, |state| state == "up").await;
    app.interrupt_store(async || {
        until_health(&url, |state| state.contains("event store")).await;
    })
    .await;
    until("the store is back", || async {
        app.store.check().await.ok()
    })
    .await;
    claim(&app, "eve", 4_712).await;
    until_released(&app, "eve").await;
    until_health(&url, |state| state == "up").await;
}
