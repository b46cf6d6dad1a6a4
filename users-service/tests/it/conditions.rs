//! Conditional requests: a caller changes what it has seen, and reads again only what has changed.

use crate::support::{App, create, id, spawn_app, user};
use event_streams::Expected;
use futures::future::join_all;
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use users_service::stored_event::{Fence, user_stream};
use uuid::Uuid;

fn etag(answer: &Response) -> String {
    let tag = answer.headers()[header::ETAG].to_str().unwrap();
    assert!(
        tag.starts_with('"') && tag.ends_with('"'),
        "{tag} is not a strong tag"
    );
    tag.to_owned()
}

async fn patch_if(app: &App, user: &Value, tag: &str, body: &Value) -> Response {
    let patch = app.request(Method::PATCH, &format!("/{}", id(user)));
    patch
        .header("If-Match", tag)
        .json(body)
        .send()
        .await
        .unwrap()
}

async fn delete_if(app: &App, user: &Value, tag: &str) -> StatusCode {
    let delete = app.request(Method::DELETE, &format!("/{}", id(user)));
    delete
        .header("If-Match", tag)
        .send()
        .await
        .unwrap()
        .status()
}

async fn get_if_none(app: &App, user: &Value, tag: &str) -> Response {
    let get = app.request(Method::GET, &format!("/{}", id(user)));
    get.header("If-None-Match", tag).send().await.unwrap()
}

#[tokio::test]
async fn every_answer_about_a_user_has_an_etag_that_changes_with_the_user_only() {
    let app = spawn_app().await;
    let created = app.create(&user("ada")).await;
    let first = etag(&created);
    let ada: Value = created.json().await.unwrap();
    assert_eq!(etag(&app.get(&ada).await), first);
    let path = format!("/{}", id(&ada));
    let same = app
        .send(Method::PATCH, &path, &json!({"given_name": "Ada"}))
        .await;
    assert_eq!(etag(&same), first);
    let fence = Fence::RenameFenced.encode(Uuid::new_v4(), id(&ada).parse().unwrap());
    let stream = user_stream(id(&ada).parse().unwrap());
    let fenced = app
        .store
        .append(&stream, Expected::Revision(0), vec![fence]);
    fenced.await.unwrap();
    assert_eq!(etag(&app.get(&ada).await), first);
    let patched = app
        .send(Method::PATCH, &path, &json!({"given_name": "A."}))
        .await;
    let second = etag(&patched);
    assert_ne!(second, first);
    assert_eq!(etag(&app.get(&ada).await), second);
}

#[tokio::test]
async fn a_change_requires_the_version_that_the_caller_has_seen() {
    let app = spawn_app().await;
    let created = app.create(&user("ada")).await;
    let first = etag(&created);
    let ada: Value = created.json().await.unwrap();
    let augusta = json!({"given_name": "Augusta"});
    let patched = patch_if(&app, &ada, &first, &augusta).await;
    assert_eq!(patched.status(), StatusCode::NO_CONTENT);
    let second = etag(&patched);
    let before = app.log().await.len();
    let rename = json!({"username": "lady"});
    let weak = format!("W/{second}");
    for stale in [&first, &weak, "\"x\"", "\"x\", \"y\"", "garbage"] {
        let answer = patch_if(&app, &ada, stale, &rename).await;
        assert_eq!(answer.status(), StatusCode::PRECONDITION_FAILED, "{stale}");
        assert_eq!(
            delete_if(&app, &ada, stale).await,
            StatusCode::PRECONDITION_FAILED
        );
    }
    assert_eq!(
        app.log().await.len(),
        before,
        "a refused change claims no name"
    );
    let one_of = format!("\"x\", {second}");
    assert_eq!(
        patch_if(&app, &ada, &one_of, &rename).await.status(),
        StatusCode::NO_CONTENT
    );
    assert_eq!(
        patch_if(&app, &ada, "*", &augusta).await.status(),
        StatusCode::NO_CONTENT
    );
    let third = etag(&app.get(&ada).await);
    assert_eq!(delete_if(&app, &ada, &third).await, StatusCode::NO_CONTENT);
    // A user who does not exist is not found, whatever the condition.
    assert_eq!(delete_if(&app, &ada, &third).await, StatusCode::NOT_FOUND);
    assert_eq!(delete_if(&app, &ada, "*").await, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn of_many_changes_of_one_version_one_is_made() {
    let app = spawn_app().await;
    let created = app.create(&user("ada")).await;
    let tag = etag(&created);
    let ada: Value = created.json().await.unwrap();
    let changes: Vec<_> = (0..16)
        .map(|n| json!({"given_name": format!("Ada{n}")}))
        .collect();
    let answers = join_all(
        changes
            .iter()
            .map(|change| patch_if(&app, &ada, &tag, change)),
    )
    .await;
    let made = answers
        .iter()
        .filter(|answer| answer.status() == StatusCode::NO_CONTENT);
    assert_eq!(made.count(), 1);
    let refused = answers
        .iter()
        .filter(|answer| answer.status() == StatusCode::PRECONDITION_FAILED);
    assert_eq!(refused.count(), 15);
}

#[tokio::test]
async fn a_read_of_a_known_version_is_answered_without_a_body() {
    let app = spawn_app().await;
    let created = app.create(&user("ada")).await;
    let tag = etag(&created);
    let ada: Value = created.json().await.unwrap();
    for known in [&tag, &format!("W/{tag}"), &format!("\"x\", {tag}"), "*"] {
        let answer = get_if_none(&app, &ada, known).await;
        assert_eq!(answer.status(), StatusCode::NOT_MODIFIED, "{known}");
        assert_eq!(etag(&answer), tag);
        assert!(answer.bytes().await.unwrap().is_empty());
    }
    for other in ["\"x\"", "garbage"] {
        assert_eq!(
            get_if_none(&app, &ada, other).await.status(),
            StatusCode::OK
        );
    }
    app.patch(&ada, &json!({"given_name": "Augusta"})).await;
    assert_eq!(get_if_none(&app, &ada, &tag).await.status(), StatusCode::OK);
    app.delete(&ada).await;
    assert_eq!(
        get_if_none(&app, &ada, &tag).await.status(),
        StatusCode::NOT_FOUND
    );
}

#[tokio::test]
async fn a_repeated_conditional_change_is_answered_as_the_first_time() {
    let app = spawn_app().await;
    let created = app.create(&user("ada")).await;
    let tag = etag(&created);
    let ada: Value = created.json().await.unwrap();
    let patch = async |key: &str, tag: &str| {
        let patch = app.request(Method::PATCH, &format!("/{}", id(&ada)));
        let patch = patch.header("If-Match", tag).header("Idempotency-Key", key);
        let patch = patch.json(&json!({"given_name": "Augusta"}));
        patch.send().await.unwrap()
    };
    let first = patch("k", &tag).await;
    assert_eq!(first.status(), StatusCode::NO_CONTENT);
    let repeated = patch("k", &tag).await;
    assert_eq!(repeated.status(), StatusCode::NO_CONTENT);
    assert_eq!(repeated.headers()["idempotency-replayed"], "true");
    assert_eq!(etag(&repeated), etag(&first));
    let stale = patch("stale", &tag).await;
    assert_eq!(stale.status(), StatusCode::PRECONDITION_FAILED);
    let repeated = patch("stale", &tag).await;
    assert_eq!(repeated.status(), StatusCode::PRECONDITION_FAILED);
    assert_eq!(repeated.headers()["idempotency-replayed"], "true");
}

#[tokio::test]
async fn a_command_that_conflicts_at_every_attempt_is_told_when_to_retry() {
    let app = spawn_app().await;
    let fenced = app.handler_with(crate::commands::Fenced::ids(&app));
    assert!(create(&fenced, "ada").await.is_err());
    let app = app.with_handler(|_| fenced);
    let answer = app.create(&user("eve")).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
    let problem: Value = answer.json().await.unwrap();
    assert_eq!(problem["type"], "urn:problem-type:contended");
}

#[tokio::test]
async fn a_taken_name_is_no_reason_to_retry() {
    let app = spawn_app().await;
    app.created("ada").await;
    let answer = app.create(&user("ada")).await;
    assert_eq!(answer.status(), StatusCode::CONFLICT);
    assert!(!answer.headers().contains_key(header::RETRY_AFTER));
}
