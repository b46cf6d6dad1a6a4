//! The statistics: how many users were created, renamed and deleted, by the minute, hour and day.

use crate::bus::{Bus, PACE, STATISTICS, statistics, until_published};
use crate::support::{App, id, on_both, serve_routes, spawn_app, until};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use users_service::clock::Clock;
use users_service::database::Databases;
use users_service::domain::UserId;
use users_service::projection::repair::Repair;
use users_service::query::statistics_route::StatisticsRoute;
use users_service::read_model::{
    CurrentGeneration, ProvenChange, ProvenEvent, Statistics, WindowRange, WindowSize,
};
use users_service::stored_event::UserCount;
use uuid::Uuid;

/// 2000-02-29T12:00:00Z
const NOON: u64 = 951_825_600_000;
const MINUTE: u64 = 60_000;
const HOUR: u64 = 60 * MINUTE;

fn event(revision: u64, created: u64, change: ProvenChange) -> ProvenEvent {
    ProvenEvent {
        id: Uuid::from_u128(revision.into()),
        user: UserId::new(7),
        revision,
        created,
        change,
    }
}

/// The counted windows of this size around noon, each with its distance to noon in windows: created, renamed, deleted.
async fn around_noon(databases: &Databases, size: WindowSize) -> Vec<(i64, [u64; 3])> {
    let generation = statistics(databases).await.0;
    let window = WindowRange {
        size,
        from: NOON - 400 * size.millis(),
        to: NOON + 400 * size.millis(),
    };
    let counted = Statistics.windows(&generation, window).await.unwrap();
    let distance = |start: u64| {
        let distance = i64::try_from(start).unwrap() - i64::try_from(NOON).unwrap();
        distance.div_euclid(i64::try_from(size.millis()).unwrap())
    };
    let counted = counted.iter().map(|window| {
        let numbers = [window.created, window.renamed, window.deleted];
        (distance(window.start), numbers)
    });
    counted.collect()
}

on_both! {
    events_count_in_the_windows_of_their_time_however_late_and_often_they_come,
    the_count_that_outlives_a_user_corrects_what_was_missing,
    statistics_survive_the_users_and_a_rebuild_from_the_log,
    the_route_shows_the_last_day_by_the_hour_unless_it_is_asked_for_more,
}

async fn events_count_in_the_windows_of_their_time_however_late_and_often_they_come(app: App) {
    let (_, view) = statistics(&app.databases()).await;
    let first = event(0, NOON - MINUTE, ProvenChange::Created(None));
    let second = event(1, NOON, ProvenChange::Patched(None));
    let third = event(2, NOON + 26 * HOUR, ProvenChange::Patched(None));
    for events in [
        vec![first.clone()],
        vec![first.clone(), second.clone()],
        vec![second, third, first],
    ] {
        view.apply(events).await.unwrap();
    }
    let databases = app.databases();
    let minutes = around_noon(&databases, WindowSize::Minute).await;
    assert_eq!(minutes, [(-1, [1, 0, 0]), (0, [0, 1, 0])]);
    let hours = around_noon(&databases, WindowSize::Hour).await;
    assert_eq!(hours, [(-1, [1, 0, 0]), (0, [0, 1, 0]), (26, [0, 1, 0])]);
    let days = around_noon(&databases, WindowSize::Day).await;
    assert_eq!(days, [(-1, [1, 1, 0]), (0, [0, 1, 0])]);
}

async fn the_count_that_outlives_a_user_corrects_what_was_missing(app: App) {
    let (_, view) = statistics(&app.databases()).await;
    let deleted = event(9, NOON + 2 * MINUTE, ProvenChange::Deleted);
    view.apply(vec![event(0, NOON, ProvenChange::Created(None)), deleted])
        .await
        .unwrap();
    let missing = [(0, [1, 0, 0]), (2, [0, 0, 1])];
    let databases = app.databases();
    assert_eq!(around_noon(&databases, WindowSize::Minute).await, missing);
    let mut count = UserCount::default();
    count.create(NOON);
    count.rename(NOON + MINUTE);
    count.delete(NOON + 2 * MINUTE);
    for _ in 0..2 {
        let counted = event(9, NOON + HOUR, ProvenChange::Counted(count.clone()));
        view.apply(vec![counted]).await.unwrap();
        let all = [(0, [1, 0, 0]), (1, [0, 1, 0]), (2, [0, 0, 1])];
        assert_eq!(around_noon(&databases, WindowSize::Minute).await, all);
    }
}

pub(crate) async fn total(databases: &Databases) -> [u64; 3] {
    let generation = statistics(databases).await.0;
    let window = WindowRange {
        size: WindowSize::Day,
        from: 0,
        to: u64::MAX / 2,
    };
    let counted = Statistics.windows(&generation, window).await.unwrap();
    counted
        .iter()
        .fold([0; 3], |[created, renamed, deleted], day| {
            [
                created + day.created,
                renamed + day.renamed,
                deleted + day.deleted,
            ]
        })
}

pub(crate) async fn until_counted(databases: &Databases, expected: [u64; 3]) {
    until(&format!("{expected:?} are counted"), async || {
        (total(databases).await == expected).then_some(())
    })
    .await;
}

/// The whole way: over the broker, over the erasure, and again from the log alone.
async fn statistics_survive_the_users_and_a_rebuild_from_the_log(app: App) {
    let bus = Bus::new().await;
    let databases = app.databases();
    let (_, view) = statistics(&databases).await;
    bus.broker.declare(&STATISTICS.topology()).await.unwrap();
    let _publisher = bus.publisher(&app, PACE);
    let _projector = bus.projector(&app, &view, Duration::from_millis(50));
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    app.patch(&ada, &json!({"username": "augusta"})).await;
    app.patch(&ada, &json!({"username": "ada"})).await;
    until_counted(&databases, [2, 2, 0]).await;
    app.delete(&ada).await;
    let _eraser = app.eraser();
    until_counted(&databases, [2, 2, 1]).await;
    let stream = format!("users-{}", id(&ada));
    until("the stream is tombstoned", async || {
        app.store.read_last(&stream).await.is_err().then_some(())
    })
    .await;
    app.patch(&eda, &json!({"username": "edith"})).await;
    until_published(&app).await;
    // A new database, made from the log, in which nothing is left of ada but the count.
    let other = tempfile::tempdir().unwrap();
    let other = Databases::Folder(other.path().to_owned());
    let (_, view) = statistics(&other).await;
    let end = app.store.log_end().await.unwrap().unwrap();
    let repair = Repair::new(app.store.clone(), app.keys.clone(), view);
    repair.complete(end).await.unwrap();
    assert_eq!(total(&other).await, [2, 3, 1]);
    until_counted(&databases, [2, 3, 1]).await;
}

async fn get(app: &App, now: u64, query: &str) -> (StatusCode, Value) {
    let generation = statistics(&app.databases()).await.0;
    let route = StatisticsRoute::new(
        CurrentGeneration::always(generation),
        Clock::new(move || now),
    );
    // See `listing`.
    let address = serve_routes(None, CancellationToken::new(), move |config| {
        route.add_to(config);
    });
    let url = format!("http://{address}/statistics{query}");
    let response = reqwest::get(url).await.unwrap();
    (response.status(), response.json().await.unwrap())
}

async fn the_route_shows_the_last_day_by_the_hour_unless_it_is_asked_for_more(app: App) {
    let (_, view) = statistics(&app.databases()).await;
    let events = vec![
        event(0, NOON - 24 * HOUR, ProvenChange::Created(None)),
        event(1, NOON, ProvenChange::Patched(None)),
    ];
    view.apply(events).await.unwrap();
    let noon =
        json!({"start": "2000-02-29T12:00:00.000Z", "created": 0, "renamed": 1, "deleted": 0});
    let (status, body) = get(&app, NOON + MINUTE, "").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, json!({"window": "hour", "data": [noon]}));
    let query = "?window=day&from=2000-02-28T23:00:00Z&to=2000-02-29T12:00:01Z";
    let (_, body) = get(&app, NOON, query).await;
    let days = json!([
        {"start": "2000-02-28T00:00:00.000Z", "created": 1, "renamed": 0, "deleted": 0},
        {"start": "2000-02-29T00:00:00.000Z", "created": 0, "renamed": 1, "deleted": 0},
    ]);
    assert_eq!(body, json!({"window": "day", "data": days}));
    // A window that begins at `to` is not shown.
    let query = "?window=minute&from=2000-02-29T11:59:00Z&to=2000-02-29T12:00:00Z";
    let (_, body) = get(&app, NOON, query).await;
    assert_eq!(body["data"], json!([]));
}

#[tokio::test]
async fn wrong_parameters_of_statistics_are_named() {
    let app = spawn_app().await;
    for (query, parameters) in [
        ("?window=week", vec!["window"]),
        ("?from=noon&to=1", vec!["from", "to"]),
        (
            "?from=2000-01-02T00:00:00Z&to=2000-01-01T00:00:00Z",
            vec!["from"],
        ),
        ("?window=minute&from=2000-01-01T00:00:00Z", vec!["from"]),
    ] {
        let (status, body) = get(&app, NOON, query).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{query}");
        let errors = body["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| &error["parameter"]).collect();
        assert_eq!(named, parameters, "{query}");
    }
    let (status, _) = get(&app, NOON, "?windw=day").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}
