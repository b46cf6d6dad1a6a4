//! A small service that uses every extractor of the crate.

use std::time::Duration;

use actix_web::{
    HttpResponse,
    web::{ServiceConfig, get, patch, post, resource},
};
use reqwest::{Method, RequestBuilder, Response, StatusCode};
use serde::Deserialize;
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use web::{Json, MergePatch, PathId, Problem, Query, Readiness, Server, problem_types};

/// A body that the service accepts.
pub(crate) const GOOD: &str = r#"{"name":"ada","note":"seven"}"#;

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

/// A service whose heads and bodies may take a minute to arrive.
pub(crate) fn spawn_patient_app() -> TestApp {
    let minute = Duration::from_mins(1);
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = server.head_within(minute).body_within(minute);
    spawn_server(server, Readiness::new(), routes)
}

pub(crate) fn spawn_server(
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
        .service(
            resource("/{id}")
                .route(get().to(read))
                .route(patch().to(change)),
        );
}

async fn list(page: Query<Page>) -> HttpResponse {
    HttpResponse::Ok().json(page.0.limit)
}

async fn create(Json(mut person): Json) -> Result<HttpResponse, Problem> {
    let name = person.required("name", Ok::<_, &str>);
    let note = person.optional("note", Ok::<_, &str>);
    let person = person.finish(Some((name, note)))?;
    Ok(HttpResponse::Created().json(person))
}

async fn change(_: PathId, MergePatch(mut person): MergePatch) -> Result<HttpResponse, Problem> {
    let name = person.optional("name", Ok::<_, &str>);
    person.finish(Some(name))?;
    Ok(HttpResponse::NoContent().finish())
}

async fn read(PathId(id): PathId) -> HttpResponse {
    HttpResponse::Ok().json(id)
}

/// Sends these bytes and returns everything that the server answers until the connection ends.
pub(crate) async fn raw(app: &TestApp, request: &str) -> String {
    let address = app.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    let ended = tokio::time::timeout(Duration::from_mins(1), read).await;
    ended.expect("the connection ends").unwrap();
    answer
}

/// Checks the members of an error answer and returns the names of its wrong members and parameters.
pub(crate) async fn problem(response: Response, status: u16) -> Vec<String> {
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
    let listed = problem_types::ALL.iter();
    let mut listed = listed.filter(|listed| listed.uri == body["type"]);
    let listed = listed.next().expect("a listed problem type");
    assert_eq!(listed.status.as_u16(), status, "{case}");
    assert_eq!(listed.title, body["title"], "{case}");
    let message = body["message"].as_str().unwrap();
    assert!(!message.is_empty() && body["detail"] == message, "{case}");
    assert!(
        !body.to_string().contains("ada"),
        "{case}: the answer repeats the input: {body}"
    );
    let place = |error: &Value| {
        let detail = error["detail"].as_str().unwrap();
        assert!(message.contains(detail), "{case}: {body}");
        let place = error.get("pointer").or_else(|| error.get("parameter"));
        place.and_then(Value::as_str).unwrap().to_owned()
    };
    let errors = body["errors"].as_array();
    errors.into_iter().flatten().map(place).collect()
}
