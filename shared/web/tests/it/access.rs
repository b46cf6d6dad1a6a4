//! Routes that need a token with a scope.

use std::time::Duration;

use access_tokens::{Access, AccessSettings, TokenRequest};
use actix_web::{
    HttpResponse,
    web::{ReqData, ServiceConfig, get, post, resource},
};
use reqwest::{Method, Response};
use tempfile::TempDir;
use web::{Json, Readiness, Server, secured};

use crate::support::{GOOD, TestApp, problem, spawn_server};

/// A service whose readers and writers need scopes, and the settings that it authenticates callers by.
struct Guarded {
    app: TestApp,
    settings: AccessSettings,
    _folder: TempDir,
}

fn spawn() -> Guarded {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "0123456789abcdef".repeat(4)).unwrap();
    let settings = AccessSettings {
        auth_secret_file: Some(file),
        ..AccessSettings::default()
    };
    Guarded {
        app: spawn_with(&settings),
        settings,
        _folder: folder,
    }
}

fn spawn_with(settings: &AccessSettings) -> TestApp {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = server.admitting(settings.verifier().unwrap());
    spawn_server(server, Readiness::new(), routes)
}

fn routes(config: &mut ServiceConfig) {
    let things = resource("/")
        .route(secured(get().to(read), &["things:read", "things:admin"]))
        .route(secured(post().to(write), &["things:write"]));
    config.service(things);
}

async fn read(access: Option<ReqData<Access>>) -> HttpResponse {
    let subject = access.map(|access| access.subject().to_owned());
    HttpResponse::Ok().json(subject)
}

async fn write(_: Json) -> HttpResponse {
    HttpResponse::Created().finish()
}

impl Guarded {
    fn token(&self, scope: &str) -> String {
        let request = TokenRequest {
            subject: "grace",
            scopes: &[scope.to_owned()],
            lifetime: Duration::from_mins(1),
        };
        self.settings.signer().unwrap().token(&request).unwrap()
    }

    async fn get(&self, authorization: &[&str]) -> Response {
        let mut request = self.app.request(Method::GET, "/");
        for value in authorization {
            request = request.header("authorization", *value);
        }
        request.send().await.unwrap()
    }
}

fn challenge(response: &Response) -> String {
    response.headers()["www-authenticate"]
        .to_str()
        .unwrap()
        .to_owned()
}

#[tokio::test]
async fn a_token_with_the_scope_lets_its_bearer_in() {
    let guarded = spawn();
    let token = guarded.token("things:read");
    for scheme in ["Bearer", "bearer", "BEARER ", "Bearer  "] {
        let response = guarded.get(&[&format!("{scheme} {token}")]).await;
        assert_eq!(response.status(), 200, "{scheme:?}");
        assert_eq!(response.json::<String>().await.unwrap(), "grace");
    }
    let token = guarded.token("things:admin");
    let response = guarded.get(&[&format!("Bearer {token}")]).await;
    assert_eq!(response.status(), 200);
}

#[tokio::test]
async fn without_one_valid_token_nobody_is_let_in() {
    let guarded = spawn();
    let token = guarded.token("things:read");
    let bearer = format!("Bearer {token}");
    let in_two_parts = format!("Bearer {token} {token}");
    let malformed = r#"Bearer error="invalid_request""#;
    let invalid = r#"Bearer error="invalid_token""#;
    for (authorization, expected) in [
        (vec![], "Bearer"),
        (vec!["Basic YWRhOmFkYQ=="], malformed),
        (vec!["Bearer"], malformed),
        (vec![token.as_str()], malformed),
        (vec![&bearer, &bearer], malformed),
        (vec!["Bearer ada"], invalid),
        (vec!["Bearer "], malformed),
        (vec![&in_two_parts], invalid),
    ] {
        let response = guarded.get(&authorization).await;
        assert_eq!(challenge(&response), expected, "{authorization:?}");
        problem(response, 401).await;
    }
}

#[tokio::test]
async fn another_scope_is_not_enough() {
    let guarded = spawn();
    for scope in ["things:write", "things", "things:reader", "THINGS:READ", ""] {
        let response = guarded
            .get(&[&format!("Bearer {}", guarded.token(scope))])
            .await;
        let expected = r#"Bearer error="insufficient_scope", scope="things:read things:admin""#;
        assert_eq!(challenge(&response), expected);
        problem(response, 403).await;
    }
}

#[tokio::test]
async fn a_caller_without_access_learns_nothing_about_the_body() {
    let guarded = spawn();
    for body in [GOOD, "", "{", &"x".repeat(20_000)] {
        problem(guarded.app.post(body.to_owned()).send().await.unwrap(), 401).await;
        let token = guarded.token("things:read");
        let request = guarded.app.post(body.to_owned()).bearer_auth(token);
        problem(request.send().await.unwrap(), 403).await;
    }
    let token = guarded.token("things:write");
    let written = guarded.app.post(GOOD).bearer_auth(token).send().await;
    assert_eq!(written.unwrap().status(), 201);
}

#[tokio::test]
async fn health_options_and_what_does_not_exist_need_no_token() {
    let guarded = spawn();
    for (method, path, status) in [
        (Method::GET, "/_healthz", 200),
        (Method::GET, "/_readyz", 200),
        (Method::OPTIONS, "/", 204),
        (Method::DELETE, "/", 405),
        (Method::GET, "/nothing/here", 404),
        (Method::HEAD, "/", 401),
    ] {
        let response = guarded.app.request(method.clone(), path).send().await;
        assert_eq!(response.unwrap().status(), status, "{method} {path}");
    }
}

#[tokio::test]
async fn a_server_without_authentication_lets_everybody_in_and_believes_no_token() {
    let app = spawn_with(&AccessSettings::default());
    for authorization in [None, Some("Bearer x")] {
        let mut request = app.request(Method::GET, "/");
        if let Some(value) = authorization {
            request = request.header("authorization", value);
        }
        let response = request.send().await.unwrap();
        assert_eq!(response.json::<Option<String>>().await.unwrap(), None);
    }
}

#[tokio::test]
async fn while_the_keys_cannot_be_read_a_caller_is_asked_to_come_back() {
    let settings = AccessSettings {
        auth_jwks: Some("/nowhere/keys.json".to_owned()),
        ..AccessSettings::default()
    };
    let app = spawn_with(&settings);
    let guarded = spawn();
    let request = app
        .request(Method::GET, "/")
        .bearer_auth(guarded.token("things:read"));
    let response = request.send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "1");
    problem(response, 503).await;
}
