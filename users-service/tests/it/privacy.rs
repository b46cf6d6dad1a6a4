//! No personal value is stored in clear. A control proves that the search would find one.

use crate::support::{App, spawn_app};
use event_streams::{Expected, NewEvent};
use reqwest::StatusCode;
use serde_json::json;
use std::path::Path;
use uuid::Uuid;

/// Unique values, which occur nowhere else.
fn canaries() -> [String; 4] {
    ["username", "given", "family", "renamed"]
        .map(|name| format!("canary-{name}-{}", Uuid::new_v4().simple()))
}

fn found_in(folder: &Path, needle: &str) -> bool {
    std::fs::read_dir(folder).unwrap().any(|entry| {
        let path = entry.unwrap().path();
        if path.is_dir() {
            return found_in(&path, needle);
        }
        let bytes = std::fs::read(&path).unwrap();
        bytes
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
    })
}

async fn written(app: &App, canaries: &[String; 4]) {
    let [username, given_name, family_name, renamed] = canaries;
    let body = json!({"username": username, "given_name": given_name, "family_name": family_name});
    let created = app.create(&body).await;
    assert_eq!(created.status(), StatusCode::CREATED);
    let created = created.json().await.unwrap();
    let patch = json!({"username": renamed});
    assert_eq!(app.patch(&created, &patch).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn no_file_of_the_stores_has_a_personal_value_in_clear() {
    let app = spawn_app().await;
    let canaries = canaries();
    written(&app, &canaries).await;
    for canary in &canaries {
        assert!(!found_in(app.folder.path(), canary), "{canary}");
    }
}

#[tokio::test]
async fn the_search_finds_a_value_that_is_stored_in_clear() {
    let app = spawn_app().await;
    let [canary, ..] = canaries();
    let event = NewEvent {
        id: Uuid::new_v4(),
        event_type: "Careless.v1".into(),
        data: json!({"username": canary}).to_string().into(),
        metadata: bytes::Bytes::new(),
    };
    let appended = app
        .store
        .append("careless", Expected::NoStream, vec![event]);
    appended.await.unwrap();
    assert!(found_in(app.folder.path(), &canary));
}

#[tokio::test]
async fn debug_output_shows_no_personal_value_and_no_secret() {
    let app = spawn_app().await;
    let canaries = canaries();
    written(&app, &canaries).await;
    let text = format!("{:?} {:?}", app.handler, app.keys);
    assert!(canaries.iter().all(|canary| !text.contains(canary)));
    for secret in ["0c0c0c", "0d0d0d", "12, 12, 12", "13, 13, 13"] {
        assert!(!text.contains(secret), "{text}");
    }
}
