//! What the routes of users accept, and how they refuse what they do not.

use crate::commands::Fenced;
use crate::support::{App, id, spawn_app, user};
use reqwest::{Method, Response, StatusCode, header};
use serde_json::{Value, json};
use users_service::problem_types;
use web::ProblemType;

/// Checks that the answer is this problem, and returns its body.
async fn problem(answer: Response, expected: ProblemType) -> Value {
    assert_eq!(answer.status(), expected.status.as_u16());
    let media_type = &answer.headers()[header::CONTENT_TYPE];
    assert_eq!(media_type, "application/problem+json");
    let body: Value = answer.json().await.unwrap();
    assert_eq!(body["type"], expected.uri, "{body}");
    assert!(body["message"].is_string(), "{body}");
    body
}

/// Checks that the answer refuses exactly these members.
async fn refuses(answer: Response, pointers: &[&str]) {
    let body = problem(answer, web::problem_types::INVALID_INPUT).await;
    let errors = body["errors"].as_array().unwrap();
    let named: Vec<_> = errors.iter().map(|error| &error["pointer"]).collect();
    assert_eq!(named, pointers, "{body}");
    let message = body["message"].as_str().unwrap();
    for error in errors {
        assert!(
            message.contains(error["detail"].as_str().unwrap()),
            "{body}"
        );
    }
}

async fn patch(app: &App, user: &Value, body: &Value) -> Response {
    app.send(Method::PATCH, &format!("/{}", id(user)), body)
        .await
}

#[tokio::test]
async fn bad_input_changes_nothing_and_every_wrong_field_is_named() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let before = app.log().await.len();
    for (field, value) in [
        ("username", json!("")),
        ("username", json!("ev")),
        ("username", json!("e".repeat(65))),
        ("username", json!(null)),
        ("username", json!("\u{2800}\u{2800}\u{2800}")),
        ("username", json!("eve ")),
        ("username", json!("e  ve")),
        ("username", json!("eve\u{378}")),
        ("username", json!("eve\u{202E}")),
        ("username", json!("אeve")),
        ("given_name", json!("x".repeat(10_000))),
        ("given_name", json!("\u{200B}")),
        ("given_name", json!("e\u{202E}ve")),
        ("family_name", json!(5)),
        ("family_name", json!(" Eve")),
    ] {
        let mut body = user("eve");
        body[field] = value.clone();
        let pointer = format!("#/{field}");
        refuses(app.create(&body).await, &[&pointer]).await;
        refuses(
            patch(&app, &ada, &json!({ field: value })).await,
            &[&pointer],
        )
        .await;
    }
    let three = json!({"username": "e v e", "given_name": "", "other": 1});
    let of_new = ["#/username", "#/given_name", "#/family_name", "#/other"];
    refuses(app.create(&three).await, &of_new).await;
    let of_patch = ["#/username", "#/given_name", "#/other"];
    refuses(patch(&app, &ada, &three).await, &of_patch).await;
    assert_eq!(app.log().await.len(), before);
}

#[tokio::test]
async fn an_unknown_member_is_refused_and_named() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let mut with_id = user("eve");
    with_id["id"] = ada["id"].clone();
    refuses(app.create(&with_id).await, &["#/id"]).await;
    let mut misspelled = user("eve");
    misspelled["givenname"] = json!("X");
    refuses(app.create(&misspelled).await, &["#/givenname"]).await;
    for (body, pointer) in [
        (json!({"givenname": "X"}), "#/givenname"),
        (json!({"id": "12345"}), "#/id"),
        (json!({"id": null}), "#/id"),
        (json!({"id": 1}), "#/id"),
    ] {
        refuses(patch(&app, &ada, &body).await, &[pointer]).await;
    }
    let after: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(after, ada);
}

#[tokio::test]
async fn the_answer_of_a_get_can_be_changed_and_sent_back() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let mut read: Value = app.get(&ada).await.json().await.unwrap();
    read["given_name"] = json!("Augusta");
    assert_eq!(app.patch(&ada, &read).await, StatusCode::NO_CONTENT);
    let after: Value = app.get(&ada).await.json().await.unwrap();
    assert_eq!(after, read);
}

#[tokio::test]
async fn a_patch_is_a_merge_patch_under_both_media_types() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    for (media_type, given_name) in [
        ("application/merge-patch+json", "Augusta"),
        ("application/json", "Ada King"),
    ] {
        let body = json!({"given_name": given_name}).to_string();
        let path = format!("/{}", id(&ada));
        let answer = app.send_as(Method::PATCH, &path, media_type, body).await;
        assert_eq!(answer.status(), StatusCode::NO_CONTENT);
        let read: Value = app.get(&ada).await.json().await.unwrap();
        assert_eq!(read["given_name"], given_name);
        assert_eq!(read["family_name"], ada["family_name"]);
    }
    // Null would remove a member, but no name can be removed. A patch that is no object would replace the user.
    refuses(
        patch(&app, &ada, &json!({"given_name": null})).await,
        &["#/given_name"],
    )
    .await;
    refuses(patch(&app, &ada, &json!(["x"])).await, &["#"]).await;
    let before = app.log().await.len();
    assert_eq!(app.patch(&ada, &json!({})).await, StatusCode::NO_CONTENT);
    assert_eq!(app.log().await.len(), before);
    let merge_patch = "application/merge-patch+json";
    let body = user("eve").to_string();
    let answer = app.send_as(Method::POST, "/", merge_patch, body).await;
    problem(answer, web::problem_types::UNSUPPORTED_MEDIA_TYPE).await;
}

#[tokio::test]
async fn a_taken_name_and_contention_are_distinguishable() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let eve = app.created("eve").await;
    let rename = json!({"username": "ada"});
    for answer in [
        app.create(&user("ADA")).await,
        patch(&app, &eve, &rename).await,
    ] {
        assert!(!answer.headers().contains_key(header::RETRY_AFTER));
        problem(answer, problem_types::USERNAME_TAKEN).await;
    }
    let (url, _serves) = app.serve_with(Fenced::ids(&app));
    let request = reqwest::Client::new().post(url).json(&user("bob"));
    let answer = request.send().await.unwrap();
    assert_eq!(answer.headers()[header::RETRY_AFTER], "1");
    problem(answer, problem_types::CONTENDED).await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn every_resource_answers_head_and_options() {
    let app = spawn_app().await;
    let ada = app.created("ada").await;
    let of_ada = format!("/{}", id(&ada));
    let nothing = json!(null);
    for (path, status) in [
        (&*of_ada, StatusCode::OK),
        ("/12345", StatusCode::NOT_FOUND),
    ] {
        let get = app.send(Method::GET, path, &nothing).await;
        let head = app.send(Method::HEAD, path, &nothing).await;
        assert_eq!((get.status(), head.status()), (status, status));
        for name in [header::CONTENT_TYPE, header::CONTENT_LENGTH] {
            assert_eq!(get.headers()[&name], head.headers()[&name]);
        }
        assert!(head.bytes().await.unwrap().is_empty());
    }
    for (path, allowed) in [
        ("/", "POST, OPTIONS"),
        (&*of_ada, "GET, PATCH, DELETE, HEAD, OPTIONS"),
    ] {
        let options = app.send(Method::OPTIONS, path, &nothing).await;
        assert_eq!(options.status(), StatusCode::NO_CONTENT);
        assert_eq!(options.headers()[header::ALLOW], allowed);
        let put = app.send(Method::PUT, path, &nothing).await;
        assert_eq!(put.headers()[header::ALLOW], allowed);
        problem(put, web::problem_types::METHOD_NOT_ALLOWED).await;
    }
}

#[test]
fn every_problem_type_has_a_uri_of_its_own() {
    let all = web::problem_types::ALL.iter().chain(problem_types::ALL);
    let mut uris: Vec<_> = all.map(|kind| kind.uri).collect();
    let count = uris.len();
    uris.sort_unstable();
    uris.dedup();
    assert_eq!(uris.len(), count);
}
