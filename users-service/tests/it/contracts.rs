//! The contracts of the messages: they are served to everybody, and no change breaks a program that was written for the frozen
//! ones in `tests/fixtures/contracts`.
//!
//! `FREEZE_CONTRACTS=1 cargo test -p users-service --test it contracts` freezes today's, unless they break the frozen ones.

mod breaking_changes;
mod narrower;

use crate::starting::config;
use crate::support::until;
use breaking_changes::breaking_changes;
use reqwest::{Client, Method, StatusCode};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use users_service::contracts;
use users_service::startup::{Application, Role};

fn fixture(file: &str) -> PathBuf {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/contracts");
    Path::new(folder).join(file)
}

fn today() -> Value {
    serde_json::from_str(&contracts::text(&contracts::asyncapi())).unwrap()
}

#[test]
fn no_change_of_a_message_breaks_a_program_that_was_written_for_the_frozen_contracts() {
    let path = fixture("asyncapi.json");
    if let Ok(frozen) = std::fs::read_to_string(&path) {
        let frozen = serde_json::from_str(&frozen).unwrap();
        let breaking = breaking_changes(&frozen, &today());
        assert!(breaking.is_empty(), "see ADR 21: {breaking:#?}");
    }
    if std::env::var_os("FREEZE_CONTRACTS").is_some() {
        std::fs::write(&path, contracts::text(&today())).unwrap();
    }
    assert!(path.exists(), "the frozen contracts are missing");
}

/// The document with another value at each of these places, which are JSON pointers, or begin with the name of a schema. `null`
/// removes a value, and a list grows at `-`.
fn patched(mut document: Value, patch: &Value) -> Value {
    for (place, value) in patch.as_object().unwrap() {
        let place = match place.strip_prefix('/') {
            Some(_) => place.clone(),
            None => format!("/components/schemas/{place}"),
        };
        let (parent, member) = place.rsplit_once('/').unwrap();
        let parent = document.pointer_mut(parent).expect(parent);
        if let Some(list) = parent.as_array_mut() {
            match member.parse() {
                Ok(index) => drop(list.remove(index)),
                Err(_) => list.push(value.clone()),
            }
        } else if value.is_null() {
            let removed = parent.as_object_mut().unwrap().remove(member);
            assert!(removed.is_some(), "{place}");
        } else {
            parent[member] = value.clone();
        }
    }
    document
}

/// Changes of today's contracts, by name.
fn planted(file: &str) -> Map<String, Value> {
    let changes = std::fs::read_to_string(fixture(file)).unwrap();
    serde_json::from_str(&changes).unwrap()
}

#[test]
fn planted_breaking_changes_are_found() {
    for (what, patch) in planted("breaking-changes.json") {
        let found = breaking_changes(&today(), &patched(today(), &patch));
        assert!(!found.is_empty(), "{what}");
    }
    let members = "CreateUser/properties/data/additionalProperties";
    let open = patched(today(), &json!({ members: null }));
    for patch in [
        json!({ members: false }),
        json!({"CreateUser/properties/data/properties/email": {"type": "string"}}),
    ] {
        let found = breaking_changes(&open, &patched(open.clone(), &patch));
        assert!(!found.is_empty(), "a member that was ignored: {patch}");
    }
}

#[test]
fn compatible_changes_are_accepted() {
    for (what, patch) in planted("compatible-changes.json") {
        let found = breaking_changes(&today(), &patched(today(), &patch));
        assert_eq!(found, [""; 0], "{what}");
    }
}

/// Serves the role, which authenticates its callers, until the token is cancelled.
async fn served(role: Role, folder: &TempDir, shutdown: CancellationToken) -> String {
    let mut config = config(folder.path(), &"0e".repeat(32));
    config.access.auth_secret_file = Some(folder.path().join("secret"));
    let application = Application::build(role, &config).await.unwrap();
    let url = format!("http://{}", application.address());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(application.run(shutdown))
    });
    until("the process listens", async || {
        reqwest::get(format!("{url}/_healthz")).await.ok()
    })
    .await;
    url
}

#[tokio::test]
async fn the_contracts_are_served_to_everybody() {
    let folder = TempDir::new().unwrap();
    for role in [Role::Api, Role::QueryApi] {
        let shutdown = CancellationToken::new();
        let _stops_when_dropped = shutdown.clone().drop_guard();
        let url = served(role, &folder, shutdown).await;
        let get = async |path: &str| reqwest::get(format!("{url}{path}")).await.unwrap();
        assert_eq!(get("/").await.status(), StatusCode::UNAUTHORIZED);
        let document = get("/asyncapi.json").await;
        let media_type = "application/vnd.aai.asyncapi+json;version=3.0.0";
        assert_eq!(document.headers()["content-type"], media_type);
        assert_eq!(document.json::<Value>().await.unwrap(), today());
        for (name, schema) in contracts::schemas() {
            let served = get(&format!("/schemas/{name}")).await;
            assert_eq!(served.headers()["content-type"], "application/schema+json");
            assert_eq!(served.text().await.unwrap(), contracts::text(&schema));
        }
        let unknown = get("/schemas/user.praised.v1").await;
        assert_eq!(unknown.status(), StatusCode::NOT_FOUND);
        let put = Client::new().request(Method::PUT, format!("{url}/asyncapi.json"));
        let put = put.send().await.unwrap();
        assert_eq!(put.status(), StatusCode::METHOD_NOT_ALLOWED);
    }
}
