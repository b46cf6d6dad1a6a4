//! Users with names that today's rules refuse. Versions without these rules created them. The fixtures are the exported
//! events, the keys and the secrets of such a version, which are used nowhere else.

use crate::listing::{get, project};
use crate::support::{App, SECRET, id, spawn_app, spawn_app_in, user};
use event_streams::{Expected, NewEvent};
use reqwest::StatusCode;
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;
use users_service::domain::{Claim, FamilyName, GivenName, Profile, UserEvent, UserId, Username};
use users_service::privacy::pseudonym::UsernameSecret;
use users_service::stored_event::{ReservationEvent, StoredEvent, user_stream};
use uuid::Uuid;

/// Username, given name and family name, in the order of the ids.
const USERS: [[&str; 3]; 9] = [
    ["zed", "Zed", "One"],
    ["zed ", "\u{200B}", " Two "],
    ["z  ed", "Zed", "Three\u{2028}"],
    ["\u{2800}", "\u{2800}", "\u{3164}"],
    ["\u{16EA0}", "Capital", "Letter"],
    ["\u{16EBB}", "Small", "Letter"],
    ["\u{16EA1}\u{16EA2}", "Capital", "Letters"],
    ["\u{378}", "Unassigned", "\u{E000}"],
    // Created as ada, and renamed.
    ["Lady\u{A0}Ada", "\u{200B}\u{200B}", "Lovelace"],
];

fn fixture(file: &str) -> std::path::PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/names-of-before");
    folder.join(file)
}

/// An app with the data of the earlier version.
async fn app_with_former_data() -> App {
    let folder = TempDir::new().unwrap();
    std::fs::copy(fixture("keys.db"), folder.path().join("keys.db")).unwrap();
    let secret = std::fs::read_to_string(fixture("username-secret")).unwrap();
    assert_eq!(secret, SECRET.repeat(32));
    let app = spawn_app_in(folder).await;
    for line in std::fs::read_to_string(fixture("events.jsonl"))
        .unwrap()
        .lines()
    {
        append(&app, &serde_json::from_str(line).unwrap()).await;
    }
    app
}

async fn append(app: &App, event: &Value) {
    let bytes = |member: &str| event.get(member).map(Value::to_string).unwrap_or_default();
    let before = event["revision"].as_u64().unwrap().checked_sub(1);
    let new = NewEvent {
        id: event["id"].as_str().unwrap().parse::<Uuid>().unwrap(),
        event_type: event["type"].as_str().unwrap().to_owned().into(),
        data: bytes("data").into(),
        metadata: bytes("metadata").into(),
    };
    let stream = event["stream"].as_str().unwrap();
    let expected = before.map_or(Expected::NoStream, Expected::Revision);
    app.store.append(stream, expected, vec![new]).await.unwrap();
}

/// Stores a user as a version did that had no rules and folded as before Unicode 17.
pub(crate) async fn stored_before(app: &App, id: u64, name: &str) -> Value {
    let user = UserId::new(id);
    let secret: UsernameSecret = SECRET.repeat(32).parse().unwrap();
    let username = Username::as_stored(name.to_owned());
    let former = secret.former_reservation(&username);
    let reservation = former.unwrap_or_else(|| secret.reservation(&username));
    let claimed = ReservationEvent::claimed(user).encode(Uuid::new_v4());
    let names = reservation.to_string();
    let claimed = app.store.append(&names, Expected::NoStream, vec![claimed]);
    let claim = Claim {
        revision: claimed.await.unwrap().revision,
        reservation,
    };
    let profile = Profile {
        username,
        given_name: GivenName::as_stored("\u{200B}".to_owned()),
        family_name: FamilyName::as_stored(String::new()),
    };
    let created = UserEvent::Created { profile, claim };
    let key = app.keys.fresh().await.unwrap();
    let created = StoredEvent::encode(Uuid::new_v4(), user, &created, &key);
    let stream = user_stream(user);
    let created = app.store.append(&stream, Expected::NoStream, vec![created]);
    created.await.unwrap();
    json!({"id": id.to_string(), "username": name, "given_name": "\u{200B}", "family_name": ""})
}

/// The users as answers must show them.
async fn users(app: &App) -> Vec<Value> {
    let mut ids: Vec<String> = Vec::new();
    for event in app.log().await {
        let user = event.stream.strip_prefix("users-");
        ids.extend(user.filter(|_| event.revision == 0).map(str::to_owned));
    }
    let user = |(id, [username, given, family]): (String, [&str; 3])| json!({"id": id, "username": username, "given_name": given, "family_name": family});
    ids.into_iter().zip(USERS).map(user).collect()
}

async fn claims(app: &App) -> usize {
    let log = app.log().await;
    let of_names = |event: &&event_streams::RecordedEvent| event.stream.starts_with("username-");
    log.iter().filter(of_names).count()
}

#[tokio::test]
async fn users_with_names_that_are_refused_now_are_read_and_listed_unchanged() {
    let app = app_with_former_data().await;
    let users = users(&app).await;
    assert_eq!(users.len(), USERS.len());
    for user in &users {
        let answer = app.get(user).await;
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.json::<Value>().await.unwrap(), *user);
    }
    project(&app, &users.iter().collect::<Vec<_>>()).await;
    let (status, body) = get(&app, "/").await;
    assert_eq!(status, 200);
    assert_eq!(body, json!({"data": users, "next": null}));
}

#[tokio::test]
async fn every_name_that_was_reserved_stays_reserved() {
    let app = app_with_former_data().await;
    let users = users(&app).await;
    let claimed = claims(&app).await;
    for [name, ..] in USERS {
        let answer = app.create(&user(name)).await;
        let refused = [StatusCode::CONFLICT, StatusCode::UNPROCESSABLE_ENTITY];
        assert!(
            refused.contains(&answer.status()),
            "{name:?} {}",
            answer.status()
        );
    }
    for user in &users {
        let patch = json!({"family_name": "Changed"});
        assert_eq!(app.patch(user, &patch).await, StatusCode::NO_CONTENT);
    }
    assert_eq!(claims(&app).await, claimed);
}

#[tokio::test]
async fn users_with_names_that_are_refused_now_are_renamed_and_deleted() {
    let app = app_with_former_data().await;
    let users = users(&app).await;
    for (number, user) in users.iter().enumerate() {
        let of_user = format!("users-{}", id(user));
        let metadata = app.events(&of_user).await.pop().unwrap().metadata;
        let metadata: Value = serde_json::from_slice(&metadata).unwrap();
        let renamed = format!("new{number}");
        let patch = json!({"username": renamed});
        assert_eq!(app.patch(user, &patch).await, StatusCode::NO_CONTENT);
        let read: Value = app.get(user).await.json().await.unwrap();
        assert_eq!(read["username"], renamed);
        let reservation = metadata["reservation"].as_str().unwrap();
        let last = app.events(reservation).await.pop().unwrap();
        assert_eq!(last.event_type, "UsernameReleased.v1");
        assert_eq!(app.delete(user).await, StatusCode::NO_CONTENT);
        assert!(!app.is_there(user).await);
        app.created(&renamed).await;
    }
}

#[tokio::test]
async fn a_name_that_was_reserved_before_letters_got_a_new_case_blocks_all_its_spellings() {
    let app = spawn_app().await;
    let capitals = stored_before(&app, 1_001, "\u{16EA1}\u{16EA2}\u{16EA3}").await;
    let capital = stored_before(&app, 1_002, "\u{16EA4}\u{16EBF}\u{16EBF}").await;
    let claimed = claims(&app).await;
    // In the earlier version these were different names.
    for name in [
        "\u{16EBC}\u{16EBD}\u{16EBE}",
        "\u{16EA1}\u{16EBD}\u{16EBE}",
        "\u{16EBF}\u{16EBF}\u{16EBF}",
    ] {
        let answer = app.create(&user(name)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{name:?}");
    }
    // A patch with the user's own name keeps the reservation.
    for user in [&capitals, &capital] {
        let patch = json!({"username": user["username"], "given_name": "Changed"});
        assert_eq!(app.patch(user, &patch).await, StatusCode::NO_CONTENT);
    }
    assert_eq!(claims(&app).await, claimed);
}

#[tokio::test]
async fn a_stored_name_that_breaks_the_rules_still_blocks_the_name_that_it_looks_like() {
    let app = spawn_app().await;
    let hidden = stored_before(&app, 1_001, "a\u{200B}d\u{202E}a").await;
    for name in ["ada", "ADA"] {
        let answer = app.create(&user(name)).await;
        assert_eq!(answer.status(), StatusCode::CONFLICT, "{name}");
    }
    let read: Value = app.get(&hidden).await.json().await.unwrap();
    assert_eq!(read, hidden);
    // Only the names in a command must obey the rules, so the others may stay as they are.
    let patch = json!({"given_name": "Ada"});
    assert_eq!(app.patch(&hidden, &patch).await, StatusCode::NO_CONTENT);
    for unchanged in [
        json!({"username": hidden["username"]}),
        json!({"family_name": ""}),
    ] {
        let answer = app.patch(&hidden, &unchanged).await;
        assert_eq!(answer, StatusCode::UNPROCESSABLE_ENTITY);
    }
    assert_eq!(
        app.patch(&hidden, &json!({"username": "ada"})).await,
        StatusCode::NO_CONTENT
    );
    assert_eq!(app.delete(&hidden).await, StatusCode::NO_CONTENT);
    app.created("ada").await;
}

#[tokio::test]
async fn two_users_whose_names_became_the_same_both_keep_it() {
    let app = spawn_app().await;
    let capital = stored_before(&app, 1_001, "\u{16EA0}da").await;
    let small = stored_before(&app, 1_002, "\u{16EBB}da").await;
    let rename = json!({"username": small["username"]});
    assert_eq!(app.patch(&capital, &rename).await, StatusCode::CONFLICT);
    let new = user("\u{16EBB}da");
    assert_eq!(app.delete(&small).await, StatusCode::NO_CONTENT);
    assert_eq!(app.create(&new).await.status(), StatusCode::CONFLICT);
    assert_eq!(app.delete(&capital).await, StatusCode::NO_CONTENT);
    assert_eq!(app.create(&new).await.status(), StatusCode::CREATED);
}
