//! An event that cannot be published parks its own stream, and no other.

use crate::bus::{Bus, PACE, Role, parked_streams, published, until_published};
use crate::publishing::{app_and_bus, sequences, types};
use crate::support::{App, id, until};
use event_streams::Expected;
use messaging::Consumer;
use serde_json::{Value, json};
use sqlx::SqlitePool;
use std::time::Duration;
use users_service::integration::publisher::Pace;
use users_service::integration::publisher::operator;
use users_service::operations::{Decision, OperationError};

const UNKNOWN: &str = "UserPromoted.v9";

/// A slow pace, so that an operator's command fits between two checkpoints even on a busy machine.
const CALM: Pace = Pace {
    checkpoint: Duration::from_millis(500),
    ..PACE
};

async fn publishing() -> (App, Bus, Consumer, Role) {
    publishing_at(PACE).await
}

async fn publishing_at(pace: Pace) -> (App, Bus, Consumer, Role) {
    let (app, bus) = app_and_bus().await;
    let probe = bus.probe().await;
    let publisher = bus.publisher(&app, pace);
    (app, bus, probe, publisher)
}

fn stream(user: &Value) -> String {
    format!("users-{}", id(user))
}

/// The parked streams in the checkpoint, each with its first unpublished revision.
async fn parked(app: &App) -> Vec<(String, u64)> {
    let parked = parked_streams(app).await;
    let parked = parked.as_array().cloned().unwrap_or_default();
    let one = |one: &Value| {
        let stream = one["stream"].as_str().unwrap().to_owned();
        (stream, one["revision"].as_u64().unwrap())
    };
    parked.iter().map(one).collect()
}

async fn until_parked(app: &App, expected: &[(&str, u64)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(stream, revision)| ((*stream).to_owned(), *revision))
        .collect();
    until(&format!("{expected:?} is parked"), async || {
        (parked(app).await == expected).then_some(())
    })
    .await;
}

pub(crate) fn decision(reason: &str) -> Decision {
    Decision {
        by: "grace".parse().unwrap(),
        reason: reason.parse().unwrap(),
    }
}

/// The recorded decisions of operators.
pub(crate) async fn decisions(app: &App) -> Vec<Value> {
    let events = app.events("operations").await;
    let data = events
        .iter()
        .map(|event| serde_json::from_slice(&event.data));
    data.collect::<Result<_, _>>().unwrap()
}

/// The database of the subject keys.
pub(crate) async fn keys(app: &App) -> SqlitePool {
    let file = app.folder.path().join("keys.db");
    let url = format!("sqlite:{}", file.display());
    SqlitePool::connect(&url).await.unwrap()
}

#[tokio::test]
async fn an_event_that_cannot_be_mapped_parks_only_its_stream() {
    let (app, _bus, mut probe, publisher) = publishing().await;
    let ada = app.created("ada").await;
    assert_eq!(types(&mut probe, 1).await, ["user.created.v1"]);
    app.append(&stream(&ada), UNKNOWN, "{}").await;
    app.append("users-", "$>", "0@users-1").await;
    app.append("users-77", "UserCreated.v1", "{}").await;
    app.append("users-78", "UserPatched.v1", "no json").await;
    app.append("users-of-others", "UserDeleted.v1", "{}").await;
    let eda = app.created("eda").await;
    assert_eq!(
        sequences(&mut probe, 1).await,
        [format!("{}.0", id(&eda))],
        "events of other streams are sent"
    );
    until_published(&app).await;
    let expected = [
        ("users-", 0),
        (&stream(&ada), 1),
        ("users-77", 0),
        ("users-78", 0),
        ("users-of-others", 0),
    ];
    until_parked(&app, &expected).await;
    let named = format!("{} at revision 1 ({UNKNOWN}", stream(&ada));
    publisher.parks(&named).await;
}

#[tokio::test]
async fn a_parked_stream_is_still_parked_after_a_restart() {
    let (app, bus, mut probe, publisher) = publishing().await;
    let ada = app.created("ada").await;
    app.append(&stream(&ada), UNKNOWN, "{}").await;
    until_parked(&app, &[(&stream(&ada), 1)]).await;
    until_published(&app).await;
    publisher.stop().await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    app.append(&stream(&ada), "RenameFenced.v1", "{}").await;
    let publisher = bus.publisher(&app, PACE);
    let eda = app.created("eda").await;
    let expected = [format!("{}.0", id(&ada)), format!("{}.0", id(&eda))];
    assert_eq!(sequences(&mut probe, 2).await, expected);
    until_published(&app).await;
    until_parked(&app, &[(&stream(&ada), 1)]).await;
    publisher.parks(UNKNOWN).await;
}

#[tokio::test]
async fn a_lost_key_parks_its_user_until_it_is_found_again() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    let keys = keys(&app).await;
    for away in [
        "CREATE TABLE away AS SELECT * FROM keys",
        "DELETE FROM keys",
    ] {
        sqlx::query(away).execute(&keys).await.unwrap();
    }
    app.append("users-77", "RegistrationAbandoned.v1", "{}")
        .await;
    let publisher = bus.publisher(&app, PACE);
    assert_eq!(types(&mut probe, 1).await, ["user.fenced.v1"]);
    publisher.parks("is lost").await;
    until_parked(&app, &[(&stream(&ada), 0)]).await;
    let back = "INSERT OR IGNORE INTO keys SELECT * FROM away";
    sqlx::query(back).execute(&keys).await.unwrap();
    let expected = [format!("{}.0", id(&ada)), format!("{}.1", id(&ada))];
    assert_eq!(sequences(&mut probe, 2).await, expected);
    publisher.parks_nothing().await;
    until_parked(&app, &[]).await;
}

#[tokio::test]
async fn a_deletion_is_published_at_once_and_ends_the_parking() {
    let (app, _bus, mut probe, publisher) = publishing().await;
    app.append("users-77", "RegistrationAbandoned.v1", "{}")
        .await;
    app.append("users-77", UNKNOWN, "{}").await;
    app.append("users-77", "RenameFenced.v1", "{}").await;
    until_parked(&app, &[("users-77", 1)]).await;
    app.append("users-77", "UserDeleted.v1", "{}").await;
    assert_eq!(sequences(&mut probe, 2).await, ["77.0", "77.3"]);
    publisher.parks_nothing().await;
    until_parked(&app, &[]).await;
}

#[tokio::test]
async fn a_deleted_stream_is_no_longer_parked() {
    let (app, _bus, _probe, publisher) = publishing().await;
    for foreign in ["users-a", "users-b"] {
        app.append(foreign, UNKNOWN, "{}").await;
    }
    until_parked(&app, &[("users-a", 0), ("users-b", 0)]).await;
    let tombstone = app.store.tombstone("users-a", Expected::Any);
    tombstone.await.unwrap();
    until_parked(&app, &[("users-b", 0)]).await;
    app.store.delete("users-b", Expected::Any).await.unwrap();
    until_parked(&app, &[]).await;
    publisher.parks_nothing().await;
}

#[tokio::test]
async fn while_the_list_of_parked_streams_is_full_the_checkpoint_waits() {
    let (app, _bus, mut probe, publisher) = publishing().await;
    publisher.ready().await;
    for number in 0..1_001 {
        let foreign = format!("users-of-others-{number}");
        app.append(&foreign, UNKNOWN, "{}").await;
    }
    let last = app.log().await.last().unwrap().position;
    let ada = app.created("ada").await;
    let sent = [format!("{}.0", id(&ada))];
    assert_eq!(sequences(&mut probe, 1).await, sent);
    publisher
        .unhealthy("the list of parked streams is full")
        .await;
    until("the list is full", async || {
        (parked(&app).await.len() == 1_000).then_some(())
    })
    .await;
    assert!(published(&app).await < Some(last));
    let listed = operator::list(&app.store).await.unwrap();
    assert_eq!(listed.len(), 1_000);
    let gone = app.store.tombstone("users-of-others-5", Expected::Any);
    gone.await.unwrap();
    until_published(&app).await;
    assert_eq!(parked(&app).await.len(), 1_000);
}

/// The only queue takes creations, so patches are returned to the publisher.
#[tokio::test]
async fn a_user_whose_message_no_queue_takes_is_parked_while_others_are_published() {
    let (app, bus) = app_and_bus().await;
    let mut creations = bus.probe_of("creations", "user.created.v1").await;
    let publisher = bus.publisher(&app, PACE);
    let ada = app.created("ada").await;
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    publisher.unhealthy("no queue takes the message").await;
    app.patch(&ada, &json!({"given_name": "Ada"})).await;
    until("ada is parked", async || {
        // Other users are published meanwhile.
        let name = format!("eda{}", uuid::Uuid::new_v4().simple());
        app.created(&name[..20]).await;
        (parked(&app).await == [(stream(&ada), 1)]).then_some(())
    })
    .await;
    until_published(&app).await;
    let first = sequences(&mut creations, 1).await;
    assert_eq!(first, [format!("{}.0", id(&ada))]);
    let mut changes = bus.probe_of("changes", "user.patched.v1").await;
    let expected = [format!("{}.1", id(&ada)), format!("{}.2", id(&ada))];
    assert_eq!(sequences(&mut changes, 2).await, expected);
    publisher.parks_nothing().await;
    until_parked(&app, &[]).await;
}

#[tokio::test]
async fn a_skipped_event_is_recorded_and_the_rest_is_published() {
    let (app, _bus, mut probe, publisher) = publishing_at(CALM).await;
    for event_type in [UNKNOWN, "RenameFenced.v1", "UserPromoted.v10"] {
        app.append("users-77", event_type, "{}").await;
    }
    until_parked(&app, &[("users-77", 0)]).await;
    let listed = operator::list(&app.store).await.unwrap();
    assert_eq!(listed[0].parked.stream, "users-77");
    assert_eq!(listed[0].event_type.as_deref(), Some(UNKNOWN));
    let decision = decision("a test wrote it");
    let not_parked = operator::skip(&app.store, "users-78", None, &decision).await;
    assert!(matches!(not_parked, Err(OperationError::NotParked(_))));
    let another = operator::skip(&app.store, "users-77", Some(1), &decision).await;
    assert!(matches!(another, Err(OperationError::MovedOn)));
    let skipped = operator::skip(&app.store, "users-77", Some(0), &decision).await;
    assert_eq!(skipped.unwrap().parked.revision, 0);
    assert_eq!(sequences(&mut probe, 1).await, ["77.1"]);
    until_parked(&app, &[("users-77", 2)]).await;
    publisher.parks("UserPromoted.v10").await;
    let written = decisions(&app).await;
    let expected = json!({"by": "grace", "stream": "users-77", "revision": 0, "type": UNKNOWN, "reason": "a test wrote it"});
    assert_eq!(written, [expected]);
}

#[tokio::test]
async fn an_operator_can_retry_parked_streams_at_once() {
    let (app, bus) = app_and_bus().await;
    let mut probe = bus.probe().await;
    let ada = app.created("ada").await;
    let keys = keys(&app).await;
    for away in [
        "CREATE TABLE away AS SELECT * FROM keys",
        "DELETE FROM keys",
    ] {
        sqlx::query(away).execute(&keys).await.unwrap();
    }
    let hours = Pace {
        retry: Duration::from_hours(200),
        ..CALM
    };
    let _publisher = bus.publisher(&app, hours);
    until_parked(&app, &[(&stream(&ada), 0)]).await;
    let back = "INSERT OR IGNORE INTO keys SELECT * FROM away";
    sqlx::query(back).execute(&keys).await.unwrap();
    operator::retry(&app.store).await.unwrap();
    assert_eq!(types(&mut probe, 1).await, ["user.created.v1"]);
    until_parked(&app, &[]).await;
}

/// The publisher is killed after an operator has decided. The next one carries on from the decision.
#[tokio::test]
async fn a_publisher_that_is_killed_beside_a_decision_sends_the_rest_after_its_restart() {
    let (app, bus, mut probe, publisher) = publishing_at(CALM).await;
    for event_type in [UNKNOWN, "RenameFenced.v1"] {
        app.append("users-77", event_type, "{}").await;
    }
    until_parked(&app, &[("users-77", 0)]).await;
    publisher.kill().await;
    let decision = decision("a test wrote it");
    let skipped = operator::skip(&app.store, "users-77", Some(0), &decision).await;
    skipped.unwrap();
    until_parked(&app, &[("users-77", 1)]).await;
    let publisher = bus.publisher(&app, CALM);
    assert_eq!(sequences(&mut probe, 1).await, ["77.1"]);
    until_parked(&app, &[]).await;
    publisher.parks_nothing().await;
}

#[tokio::test]
async fn of_two_operators_at_once_one_skips_the_event_and_no_other_is_skipped() {
    let (app, _bus, mut probe, _publisher) = publishing_at(CALM).await;
    for event_type in [UNKNOWN, "UserPromoted.v10", "RenameFenced.v1"] {
        app.append("users-77", event_type, "{}").await;
    }
    until_parked(&app, &[("users-77", 0)]).await;
    let decision = decision("a test wrote it");
    let skip = || operator::skip(&app.store, "users-77", None, &decision);
    let (one, other) = tokio::join!(skip(), skip());
    let refused = [one, other].into_iter().filter_map(Result::err);
    assert!(matches!(
        refused.collect::<Vec<_>>()[..],
        [OperationError::MovedOn]
    ));
    until_parked(&app, &[("users-77", 1)]).await;
    operator::skip(&app.store, "users-77", Some(1), &decision)
        .await
        .unwrap();
    assert_eq!(sequences(&mut probe, 1).await, ["77.2"]);
}

/// The operator's process dies between the record and the hand-over.
#[tokio::test]
async fn a_decision_that_was_recorded_but_not_carried_out_skips_nothing_and_can_be_made_again() {
    let (app, bus, mut probe, publisher) = publishing_at(CALM).await;
    for event_type in [UNKNOWN, "RenameFenced.v1"] {
        app.append("users-77", event_type, "{}").await;
    }
    until_parked(&app, &[("users-77", 0)]).await;
    let recorded = json!({"by": "mary", "stream": "users-77", "revision": 0, "type": UNKNOWN, "reason": "a test wrote it"});
    let record = recorded.to_string();
    app.append("operations", operator::PARKED_EVENT_SKIPPED, &record)
        .await;
    publisher.stop().await;
    let _publisher = bus.publisher(&app, CALM);
    let eda = app.created("eda").await;
    let of_eda = [format!("{}.0", id(&eda))];
    assert_eq!(sequences(&mut probe, 1).await, of_eda);
    until_parked(&app, &[("users-77", 0)]).await;
    let decision = decision("a test wrote it");
    operator::skip(&app.store, "users-77", Some(0), &decision)
        .await
        .unwrap();
    let mut next = sequences(&mut probe, 1).await;
    // The broker may confirm a message too late, and then it is sent again.
    while next == of_eda {
        next = sequences(&mut probe, 1).await;
    }
    assert_eq!(next, ["77.1"]);
    assert_eq!(decisions(&app).await.len(), 2);
}

/// The only queue takes creations. The pause between two rounds of attempts is longer than the test.
#[tokio::test]
async fn parked_streams_are_tried_as_soon_as_a_queue_is_bound_for_them() {
    let (app, bus) = app_and_bus().await;
    let mut creations = bus.probe_of("creations", "user.created.v1").await;
    let hours = Pace {
        retry: Duration::from_hours(200),
        ..PACE
    };
    let publisher = bus.publisher(&app, hours);
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    sequences(&mut creations, 2).await;
    for user in [&ada, &eda] {
        app.patch(user, &json!({"given_name": "Augusta"})).await;
    }
    let mut expected = [(stream(&ada), 1), (stream(&eda), 1)];
    expected.sort();
    until("both are parked", async || {
        // Other users are published meanwhile.
        let name = format!("ida{}", uuid::Uuid::new_v4().simple());
        app.created(&name[..20]).await;
        (parked(&app).await == expected).then_some(())
    })
    .await;
    let mut changes = bus.probe_of("changes", "user.patched.v1").await;
    let mut sent = sequences(&mut changes, 2).await;
    sent.sort();
    let mut expected = [format!("{}.1", id(&ada)), format!("{}.1", id(&eda))];
    expected.sort();
    assert_eq!(sent, expected);
    publisher.parks_nothing().await;
}
