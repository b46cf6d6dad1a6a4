//! Who may call the routes, and who sent a command.

use crate::operating::{Desk, giving_up, park};
use crate::parking::decisions;
use crate::support::{App, serve_with, spawn_app};
use access_tokens::{AccessSettings, TokenRequest};
use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::time::Duration;
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::scopes;

/// Callers who are authenticated under a secret.
struct Callers {
    settings: AccessSettings,
    _folder: tempfile::TempDir,
}

impl Callers {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("secret");
        std::fs::write(&file, "5a".repeat(32)).unwrap();
        let settings = AccessSettings {
            auth_secret_file: Some(file),
            ..AccessSettings::default()
        };
        Self {
            settings,
            _folder: folder,
        }
    }

    /// The address of this app's handler for these callers, until the guard is dropped.
    fn served_by(&self, app: &App) -> (SocketAddr, DropGuard) {
        let shutdown = CancellationToken::new();
        let verifier = self.settings.verifier().unwrap();
        let handler = app.handler.clone();
        let address = serve_with(handler, (None, verifier), shutdown.clone());
        (address, shutdown.drop_guard())
    }

    fn token(&self, subject: &str, scopes: &[&str]) -> String {
        let request = TokenRequest {
            subject,
            scopes: &scopes
                .iter()
                .map(|scope| (*scope).to_owned())
                .collect::<Vec<_>>(),
            lifetime: Duration::from_mins(5),
        };
        self.settings.signer().unwrap().token(&request).unwrap()
    }
}

#[tokio::test]
async fn each_route_needs_its_own_scope() {
    let app = spawn_app().await;
    let callers = Callers::new();
    let (address, _serving) = callers.served_by(&app);
    let all = [scopes::READ, scopes::WRITE, scopes::ERASE];
    let body = crate::support::user("ada");
    let client = Client::new();
    let send = async |method: &Method, path: &str, body: &Value, token: Option<String>| {
        let url = format!("http://{address}{path}");
        let request = client.request(method.clone(), url).json(body);
        let request = token
            .into_iter()
            .fold(request, reqwest::RequestBuilder::bearer_auth);
        request.send().await.unwrap()
    };
    let ada = app.created("ada0").await;
    let ada = format!("/{}", crate::support::id(&ada));
    let patch = json!({"given_name": "Augusta"});
    for (method, path, body, scope, status) in [
        (Method::POST, "/", &body, scopes::WRITE, StatusCode::CREATED),
        (Method::GET, &ada, &body, scopes::READ, StatusCode::OK),
        (
            Method::PATCH,
            &ada,
            &patch,
            scopes::WRITE,
            StatusCode::NO_CONTENT,
        ),
        (
            Method::DELETE,
            &ada,
            &body,
            scopes::ERASE,
            StatusCode::NO_CONTENT,
        ),
    ] {
        let nobody = send(&method, path, body, None).await;
        assert_eq!(nobody.status(), StatusCode::UNAUTHORIZED, "{method}");
        let others: Vec<_> = all.into_iter().filter(|other| *other != scope).collect();
        let token = callers.token("grace", &others);
        let refused = send(&method, path, body, Some(token)).await;
        assert_eq!(refused.status(), StatusCode::FORBIDDEN, "{method}");
        let token = callers.token("grace", &[scope]);
        let allowed = send(&method, path, body, Some(token)).await;
        assert_eq!(allowed.status(), status, "{method}");
    }
}

#[tokio::test]
async fn a_key_belongs_to_its_caller_and_events_name_a_pseudonym() {
    let app = spawn_app().await;
    let callers = Callers::new();
    let (address, _serving) = callers.served_by(&app);
    let create = async |subject: &str, username: &str| {
        let token = callers.token(subject, &[scopes::WRITE]);
        let request = Client::new()
            .post(format!("http://{address}/"))
            .bearer_auth(token);
        let request = request.header("idempotency-key", "the same key");
        request
            .json(&crate::support::user(username))
            .send()
            .await
            .unwrap()
    };
    let (grace, mary) = (create("grace", "ada").await, create("mary", "eve").await);
    assert_eq!(
        (grace.status(), mary.status()),
        (StatusCode::CREATED, StatusCode::CREATED)
    );
    let again = create("grace", "ada").await;
    assert_eq!(again.headers()["idempotency-replayed"], "true");
    let mut pseudonyms = std::collections::BTreeSet::new();
    for event in app.log().await {
        let metadata = String::from_utf8(event.metadata.to_vec()).unwrap();
        assert!(
            !metadata.contains("grace") && !metadata.contains("mary"),
            "{metadata}"
        );
        if event.event_type == "UserCreated.v1" {
            let metadata: Value = serde_json::from_str(&metadata).unwrap();
            pseudonyms.insert(metadata["caller"].as_str().unwrap().to_owned());
        }
    }
    assert_eq!(pseudonyms.len(), 2, "{pseudonyms:?}");
    assert!(pseudonyms.iter().all(|pseudonym| pseudonym.len() == 64));
}

#[tokio::test]
async fn the_routes_of_operators_need_their_scope_and_decisions_name_a_pseudonym() {
    let app = spawn_app().await;
    let callers = Callers::new();
    let desk = Desk::admitting(&app, callers.settings.verifier().unwrap()).await;
    park(&app, "users-77").await;
    let others = [scopes::READ, scopes::WRITE, scopes::ERASE];
    let token = callers.token("grace", &others);
    for path in [
        "/parked/retry",
        "/parked/users-77/skip",
        "/directory/held/77/replay",
        "/directory/held/77/drop",
    ] {
        let (status, _) = desk.post_as(&token, path, &giving_up(0)).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    for path in ["/parked", "/directory/held"] {
        let (status, _) = desk.get_as(&token, path).await;
        assert_eq!(status, StatusCode::FORBIDDEN, "{path}");
    }
    let token = callers.token("grace", &[scopes::ADMIN]);
    assert_eq!(desk.get_as(&token, "/parked").await.0, StatusCode::OK);
    assert_eq!(
        desk.get_as(&token, "/directory/held").await.0,
        StatusCode::OK
    );
    let path = "/parked/users-77/skip";
    // The token says who decides, so the body may not.
    let (status, refused) = desk.post_as(&token, path, &giving_up(0)).await;
    assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY);
    assert_eq!(refused["errors"][0]["pointer"], "#/by");
    let skip = json!({"revision": 0, "reason": "a test wrote it"});
    assert_eq!(desk.post_as(&token, path, &skip).await.0, StatusCode::OK);
    let decisions = decisions(&app).await;
    let by = decisions[0]["by"].as_str().unwrap();
    assert!(by.len() == 64 && !by.contains("grace"), "{by}");
}
