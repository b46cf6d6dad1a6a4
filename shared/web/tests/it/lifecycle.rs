//! Health, readiness and shutdown.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use actix_web::{
    HttpResponse, ResponseError as _,
    web::{ServiceConfig, get, resource},
};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::sync::Notify;
use web::{Problem, Readiness, Server};

use crate::support::{TestApp, problem, spawn_app, spawn_routes};

/// A dependency that the test turns on and off.
#[derive(Clone, Default)]
struct Switch(Arc<AtomicBool>);

impl Switch {
    fn turn(&self, up: bool) {
        self.0.store(up, Ordering::SeqCst);
    }

    fn check(&self) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let up = self.0.load(Ordering::SeqCst);
        async move { up.then_some(()).ok_or_else(|| "refused".to_owned()) }
    }
}

/// Status and body of `/_readyz`.
async fn readyz(app: &TestApp) -> (StatusCode, Value) {
    let response = app.request(Method::GET, "/_readyz").send().await.unwrap();
    (response.status(), response.json().await.unwrap())
}

#[tokio::test]
async fn readiness_distinguishes_needed_from_useful_dependencies() {
    let (log, broker) = (Switch::default(), Switch::default());
    let readiness = Readiness::new()
        .needs("log", {
            let log = log.clone();
            move || log.check()
        })
        .uses("broker", {
            let broker = broker.clone();
            move || broker.check()
        });
    let app = spawn_app(readiness);
    let down = "down: refused";
    assert_eq!(
        readyz(&app).await,
        (
            StatusCode::SERVICE_UNAVAILABLE,
            json!({"status": "not ready", "message": "missing: log, broker", "dependencies": {"log": down, "broker": down}})
        )
    );
    log.turn(true);
    assert_eq!(
        readyz(&app).await,
        (
            StatusCode::OK,
            json!({"status": "degraded", "message": "missing: broker", "dependencies": {"log": "up", "broker": down}})
        )
    );
    broker.turn(true);
    assert_eq!(
        readyz(&app).await,
        (
            StatusCode::OK,
            json!({"status": "ready", "dependencies": {"log": "up", "broker": "up"}})
        )
    );
}

#[tokio::test]
async fn health_does_not_depend_on_dependencies() {
    let app = spawn_app(Readiness::new().needs("broker", || async { Err("refused".to_owned()) }));
    let response = app.request(Method::GET, "/_healthz").send().await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        response.json::<Value>().await.unwrap(),
        json!({"status": "up"})
    );
}

#[tokio::test]
async fn head_has_the_answer_of_get_without_its_body() {
    let app = spawn_app(Readiness::new());
    for (path, status) in [
        ("/", 200),
        ("/1", 200),
        ("/_healthz", 200),
        ("/_readyz", 200),
        ("/ada", 404),
        ("/?limit=ada", 422),
        ("/?x=%zz", 400),
    ] {
        let got = app.request(Method::GET, path).send().await.unwrap();
        let head = app.request(Method::HEAD, path).send().await.unwrap();
        assert_eq!(head.status().as_u16(), status, "{path}");
        assert_eq!(got.status().as_u16(), status, "{path}");
        for name in ["content-type", "content-length"] {
            assert_eq!(head.headers()[name], got.headers()[name], "{path}: {name}");
        }
        assert!(head.bytes().await.unwrap().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn an_unavailable_service_says_when_to_retry() {
    let app = spawn_routes(Readiness::new(), |config: &mut ServiceConfig| {
        let away = || async { Problem::unavailable("the store is away", 3).error_response() };
        config.service(resource("/away").route(get().to(away)));
    });
    let response = app.request(Method::GET, "/away").send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "3");
    problem(response, 503).await;
}

#[tokio::test]
async fn a_request_in_flight_is_answered_before_the_end() {
    let (entered, leave) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let app = spawn_routes(Readiness::new(), {
        let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
        move |config: &mut ServiceConfig| {
            let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
            let slow = move || {
                let (entered, leave) = (Arc::clone(&entered), Arc::clone(&leave));
                async move {
                    entered.notify_one();
                    leave.notified().await;
                    HttpResponse::NoContent().finish()
                }
            };
            config.service(resource("/slow").route(get().to(slow)));
        }
    });
    let answer = tokio::spawn(app.request(Method::GET, "/slow").send());
    entered.notified().await;
    app.shutdown.cancel();
    leave.notify_one();
    assert_eq!(
        answer.await.unwrap().unwrap().status(),
        StatusCode::NO_CONTENT
    );
}

#[tokio::test]
async fn a_shutdown_ends_the_server() {
    let mut app = spawn_app(Readiness::new());
    app.request(Method::GET, "/_healthz").send().await.unwrap();
    app.shutdown.cancel();
    (&mut app.served).await.unwrap().unwrap();
    assert!(app.request(Method::GET, "/_healthz").send().await.is_err());
}

#[tokio::test]
async fn an_address_in_use_is_named() {
    let taken = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let error = Server::bind(taken.address()).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("cannot listen on {}", taken.address())
    );
}
