//! The list: its pages, its parameters, and erased users.

use crate::bus::{read_model, repair, view};
use crate::support::{App, id, on_both, serve_routes, spawn_app, user};
use actix_web::web::{Data, resource};
use reqwest::{Method, Response, StatusCode};
use serde_json::{Value, json};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use users_service::clock::Clock;
use users_service::query::api::{UserList, list_at};

pub(crate) async fn get(app: &App, path: &str) -> (StatusCode, Value) {
    let list = read_model(app).await.list(app, Clock::of_machine());
    get_with(list, path, None).await
}

/// A GET with a consistency token.
async fn get_with(list: UserList, path: &str, token: Option<&str>) -> (StatusCode, Value) {
    let response = answer(list, path, token).await;
    (response.status(), response.json().await.unwrap())
}

/// The whole answer to a GET.
pub(crate) async fn get_from(list: UserList, path: &str) -> Response {
    answer(list, path, None).await
}

async fn answer(list: UserList, path: &str, token: Option<&str>) -> Response {
    // The server runs as long as the tests: a connection of the shared keys to PostgreSQL works in the runtime that opened it.
    let address = serve_routes(None, CancellationToken::new(), move |config| {
        let list = Data::new(list.clone());
        config.app_data(list).service(list_at(resource("/")));
    });
    let mut request = reqwest::Client::new().get(format!("http://{address}{path}"));
    if let Some(token) = token {
        request = request.header("Consistency-Token", token);
    }
    request.send().await.unwrap()
}

/// Brings users into the view without a broker.
pub(crate) async fn project(app: &App, users: &[&Value]) {
    let repair = repair(app, &view(app).await);
    for user in users {
        repair
            .catch_up(id(user).parse().unwrap(), false)
            .await
            .unwrap();
    }
}

on_both! {
    users_are_listed_in_the_order_of_their_creation,
    the_cursor_of_a_page_leads_to_the_next_page,
    a_full_last_page_has_no_cursor,
    a_user_whose_key_is_destroyed_is_omitted_at_once,
    a_query_with_the_token_of_a_command_waits_until_the_list_has_it,
    a_query_with_a_token_that_is_none_of_this_service_is_refused,
    a_lost_key_is_an_error_and_not_an_erasure,
}

async fn users_are_listed_in_the_order_of_their_creation(app: App) {
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    project(&app, &[&eda, &ada]).await;
    let (status, body) = get(&app, "/").await;
    assert_eq!(status, StatusCode::OK);
    assert_eq!(body, json!({"data": [ada, eda], "next": null}));
}

async fn the_cursor_of_a_page_leads_to_the_next_page(app: App) {
    let mut users = Vec::new();
    for name in ["ada", "bob", "cyd", "dan", "eve"] {
        users.push(app.created(name).await);
    }
    project(&app, &users.iter().collect::<Vec<_>>()).await;
    let mut path = "/?limit=2".to_owned();
    let mut seen = Vec::new();
    let mut pages = 0;
    loop {
        let (_, body) = get(&app, &path).await;
        seen.extend(body["data"].as_array().unwrap().clone());
        pages += 1;
        let Some(next) = body["next"].as_str() else {
            break;
        };
        path = format!("/?limit=2&cursor={next}");
    }
    assert_eq!(seen, users);
    assert_eq!(pages, 3);
}

async fn a_full_last_page_has_no_cursor(app: App) {
    let (ada, eda) = (app.created("ada").await, app.created("eda").await);
    project(&app, &[&ada, &eda]).await;
    let (_, body) = get(&app, "/?limit=2").await;
    assert_eq!(body["next"], Value::Null);
}

async fn a_user_whose_key_is_destroyed_is_omitted_at_once(app: App) {
    let users = [
        app.created("ada").await,
        app.created("eda").await,
        app.created("ida").await,
    ];
    project(&app, &[&users[0], &users[1], &users[2]]).await;
    app.delete(&users[0]).await;
    let (_, body) = get(&app, "/?limit=2").await;
    assert_eq!(body, json!({"data": [users[1], users[2]], "next": null}));
}

async fn a_lost_key_is_an_error_and_not_an_erasure(app: App) {
    let ada = app.created("ada").await;
    project(&app, &[&ada]).await;
    let lose = sqlx::query("DELETE FROM keys");
    lose.execute(&mut app.key_database().await).await.unwrap();
    let (status, _) = get(&app, "/").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn invalid_parameters_are_refused_and_named() {
    let app = spawn_app().await;
    let cases: [(&str, &[&str]); 16] = [
        ("/?limit=0", &["limit"]),
        ("/?limit=-1", &["limit"]),
        ("/?limit=abc", &["limit"]),
        ("/?limit=1001", &["limit"]),
        ("/?limit=", &["limit"]),
        ("/?cursor=ada", &["cursor"]),
        ("/?cursor=-1", &["cursor"]),
        ("/?limit=0&cursor=ada", &["limit", "cursor"]),
        ("/?cursor=ada&prefix=ada", &["prefix", "cursor"]),
        ("/?username=", &["username"]),
        ("/?prefix=ad", &["prefix"]),
        ("/?prefix=abcdefghijklm", &["prefix"]),
        ("/?family_name=", &["family_name"]),
        ("/?prefix=ada&family_name=Lovelace", &["family_name"]),
        ("/?created_after=yesterday", &["created_after"]),
        (
            "/?username=&prefix=a&family_name=b&created_after=1",
            &["username", "prefix", "created_after"],
        ),
    ];
    for (path, parameters) in cases {
        let (status, body) = get(&app, path).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{path}");
        let errors = body["errors"].as_array().unwrap();
        let named: Vec<_> = errors.iter().map(|error| &error["parameter"]).collect();
        assert_eq!(named, parameters, "{path}");
    }
    // Nobody who has misspelt a filter gets everybody.
    let (status, _) = get(&app, "/?usrname=ada").await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
}

/// The token of a command's answer.
fn token(answer: &Response) -> String {
    let token = answer.headers()["consistency-token"].to_str().unwrap();
    token.to_owned()
}

async fn a_query_with_the_token_of_a_command_waits_until_the_list_has_it(app: App) {
    let created = app.create(&user("ada")).await;
    let of_creation = token(&created);
    let ada: Value = created.json().await.unwrap();
    let list = read_model(&app).await.list(&app, Clock::of_machine());
    let users = [&ada];
    // The control: without the token the list does not have the user yet.
    assert_eq!(get(&app, "/").await.1["data"], json!([]));
    let listed = get_with(list.clone(), "/", Some(&of_creation));
    let ((status, body), ()) = tokio::join!(listed, project(&app, &users));
    assert_eq!((status, &body["data"]), (StatusCode::OK, &json!([ada])));

    let path = format!("/{}", id(&ada));
    let augusta = json!({"given_name": "Augusta"});
    let of_change = token(&app.send(Method::PATCH, &path, &augusta).await);
    let listed = get_with(list.clone(), "/", Some(&of_change));
    let ((_, body), ()) = tokio::join!(listed, project(&app, &users));
    assert_eq!(body["data"][0]["given_name"], "Augusta");

    let of_deletion = token(&app.send(Method::DELETE, &path, &json!(null)).await);
    let impatient = list.clone().patience(Duration::ZERO);
    let refused = get_with(impatient, "/", Some(&of_deletion)).await;
    assert_eq!(refused.0, StatusCode::SERVICE_UNAVAILABLE);
    let listed = get_with(list, "/", Some(&of_deletion));
    let ((status, body), ()) = tokio::join!(listed, project(&app, &users));
    assert_eq!((status, &body["data"]), (StatusCode::OK, &json!([])));
}

async fn a_query_with_a_token_that_is_none_of_this_service_is_refused(app: App) {
    let list = read_model(&app).await.list(&app, Clock::of_machine());
    for wrong in ["", "7", "\u{e4}"] {
        let (status, body) = get_with(list.clone(), "/", Some(wrong)).await;
        assert_eq!(status, StatusCode::PRECONDITION_FAILED, "{wrong}");
        assert_eq!(body["type"], "urn:problem-type:unknown-consistency-token");
    }
}
