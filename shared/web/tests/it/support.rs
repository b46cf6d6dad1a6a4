//! A small service that uses every extractor of the crate.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    web::{ServiceConfig, get, post, resource},
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use web::{Json, PathId, Query, Readiness, Server};

#[derive(Debug, Deserialize)]
pub(crate) struct Person {
    name: String,
    address: Address,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Address {
    number: u16,
}

#[derive(Debug, Deserialize)]
struct Page {
    limit: Option<u16>,
}

pub(crate) struct TestApp {
    pub(crate) url: String,
    pub(crate) shutdown: CancellationToken,
    pub(crate) served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl TestApp {
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        reqwest::Client::new().request(method, format!("{}{path}", self.url))
    }

    pub(crate) fn post(&self, body: impl Into<reqwest::Body>) -> RequestBuilder {
        self.request(Method::POST, "/")
            .header("content-type", "application/json")
            .body(body)
    }
}

impl Drop for TestApp {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

pub(crate) fn spawn_app(readiness: Readiness) -> TestApp {
    spawn_routes(readiness, routes)
}

pub(crate) fn spawn_routes(
    readiness: Readiness,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> TestApp {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    spawn_server(server, readiness, routes)
}

/// A service whose bodies must arrive within 50 ms.
pub(crate) fn spawn_impatient_app() -> TestApp {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = server.body_within(Duration::from_millis(50));
    spawn_server(server, Readiness::new(), routes)
}

fn spawn_server(
    server: Server,
    readiness: Readiness,
    routes: impl Fn(&mut ServiceConfig) + Clone + Send + 'static,
) -> TestApp {
    let shutdown = CancellationToken::new();
    TestApp {
        url: format!("http://{}", server.address()),
        shutdown: shutdown.clone(),
        served: tokio::spawn(server.run(readiness, routes, shutdown)),
    }
}

fn routes(config: &mut ServiceConfig) {
    config
        .service(resource("/").route(get().to(list)).route(post().to(create)))
        .service(resource("/{id}").route(get().to(read)));
}

async fn list(page: Query<Page>) -> HttpResponse {
    HttpResponse::Ok().json(page.0.limit)
}

async fn create(person: Json<Person>) -> HttpResponse {
    let Person { name, address } = person.0;
    HttpResponse::Created().json((name, address.number))
}

async fn read(PathId(id): PathId) -> HttpResponse {
    HttpResponse::Ok().json(id)
}

/// Checks the members of an error answer and returns its `field`.
pub(crate) async fn problem(response: Response, status: u16) -> Option<String> {
    let case = response.url().to_string();
    assert_eq!(
        response.status(),
        StatusCode::from_u16(status).unwrap(),
        "{case}"
    );
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json",
        "{case}"
    );
    let body: Value = response.json().await.unwrap();
    assert_eq!(body["status"], status, "{case}");
    assert_eq!(body["type"], "about:blank", "{case}");
    assert!(
        body["title"].is_string() && body["detail"].is_string(),
        "{case}"
    );
    assert!(
        body["message"]
            .as_str()
            .is_some_and(|message| !message.is_empty()),
        "{case}"
    );
    assert!(
        !body.to_string().contains("ada"),
        "{case}: the answer repeats the input: {body}"
    );
    body["field"].as_str().map(str::to_owned)
}
