//! The routes of operators: what they answer, whom they let in, and what they refuse.

use crate::bus::{current_repair, view};
use crate::holding::{damage, unreadable};
use crate::parking::decisions;
use crate::support::{App, SECRET, id, serve_routes, spawn_app};
use access_tokens::Verifier;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use std::net::SocketAddr;
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::operator_routes::{HeldUsers, Operators, ParkedStreams};

/// The routes of operators of an app, until it is dropped.
pub(crate) struct Desk {
    address: SocketAddr,
    client: Client,
    _serving: DropGuard,
}

impl Desk {
    async fn open(app: &App) -> Self {
        Self::admitting(app, None).await
    }

    pub(crate) async fn admitting(app: &App, verifier: Option<Verifier>) -> Self {
        let operators = Operators::new(Some(SECRET.repeat(32).parse().unwrap()));
        let parked = ParkedStreams::new(app.store.clone(), operators.clone());
        let held = HeldUsers::new(vec![current_repair(app).await], operators);
        let shutdown = CancellationToken::new();
        let address = serve_routes(verifier, shutdown.clone(), move |config| {
            parked.add_to(config);
            held.add_to(config);
        });
        Self {
            address,
            client: Client::new(),
            _serving: shutdown.drop_guard(),
        }
    }

    async fn get(&self, path: &str) -> (StatusCode, Value) {
        let request = self.client.get(self.url(path));
        answer(request).await
    }

    async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let request = self.client.post(self.url(path)).json(body);
        answer(request).await
    }

    pub(crate) async fn post_as(
        &self,
        token: &str,
        path: &str,
        body: &Value,
    ) -> (StatusCode, Value) {
        let request = self.client.post(self.url(path)).bearer_auth(token);
        answer(request.json(body)).await
    }

    pub(crate) async fn get_as(&self, token: &str, path: &str) -> (StatusCode, Value) {
        answer(self.client.get(self.url(path)).bearer_auth(token)).await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/operations{path}", self.address)
    }
}

/// The status and the body; null if there is none.
async fn answer(request: reqwest::RequestBuilder) -> (StatusCode, Value) {
    let response = request.send().await.unwrap();
    (response.status(), response.json().await.unwrap_or_default())
}

/// A checkpoint of a publisher that has parked this stream at revision 0.
pub(crate) async fn park(app: &App, stream: &str) {
    app.append(stream, "UserPromoted.v9", "{}").await;
    let parked = json!([{"stream": stream, "revision": 0}]);
    let checkpoint = json!({"commit": 1, "prepare": 1, "parked": parked}).to_string();
    app.append("publisher-users", "PublisherCheckpoint.v1", &checkpoint)
        .await;
}

pub(crate) fn giving_up(revision: u64) -> Value {
    json!({"revision": revision, "by": "grace", "reason": "a test wrote it"})
}

fn problem(answer: &(StatusCode, Value)) -> &str {
    let uri = answer.1["type"].as_str().unwrap();
    uri.strip_prefix("urn:problem-type:").unwrap()
}

#[tokio::test]
async fn an_operator_sees_retries_and_skips_parked_streams_over_http() {
    let app = spawn_app().await;
    let desk = Desk::open(&app).await;
    assert_eq!(desk.get("/parked").await.1, json!({"data": []}));
    let stream = "users-of/others 7+%";
    park(&app, stream).await;
    let waiting = json!({"stream": stream, "revision": 0, "type": "UserPromoted.v9"});
    assert_eq!(desk.get("/parked").await.1, json!({"data": [waiting]}));
    let (retried, _) = desk.post("/parked/retry", &json!({})).await;
    assert_eq!(retried, StatusCode::NO_CONTENT);
    let path = "/parked/users-of%2Fothers%207%2B%25/skip";
    let skipped = desk.post(path, &giving_up(0)).await;
    assert_eq!(skipped, (StatusCode::OK, waiting));
    let again = desk.post(path, &giving_up(0)).await;
    assert_eq!(
        (again.0, problem(&again)),
        (StatusCode::CONFLICT, "moved-on")
    );
    let unknown = desk.post("/parked/users-78/skip", &giving_up(0)).await;
    assert_eq!(problem(&unknown), "not-found");
    let expected = json!({"by": "grace", "stream": stream, "revision": 0, "type": "UserPromoted.v9", "reason": "a test wrote it"});
    assert_eq!(decisions(&app).await, [expected]);
}

#[tokio::test]
async fn an_operator_sees_replays_and_drops_held_users_over_http() {
    let app = spawn_app().await;
    let desk = Desk::open(&app).await;
    let ada = unreadable(&app).await;
    let held = json!({"user": id(&ada), "revision": 1, "reason": "a sealed name of this event is damaged"});
    let listed = json!({"data": [held], "total": 1});
    assert_eq!(desk.get("/directory/held").await.1, listed);
    let path = |operation: &str| format!("/directory/held/{}/{operation}", id(&ada));
    let replayed = desk.post(&path("replay"), &json!({})).await;
    assert_eq!(replayed, (StatusCode::OK, json!({"held": held})));
    let another = desk.post(&path("drop"), &giving_up(2)).await;
    assert_eq!(problem(&another), "moved-on");
    let dropped = desk.post(&path("drop"), &giving_up(1)).await;
    let event = json!({"user": id(&ada), "revision": 1, "type": "UserPatched.v1"});
    assert_eq!(
        dropped,
        (StatusCode::OK, json!({"dropped": event, "held": null}))
    );
    for operation in ["replay", "drop"] {
        let again = desk.post(&path(operation), &giving_up(1)).await;
        assert_eq!(problem(&again), "not-found");
    }
    let nobody = desk.post("/directory/held/abc/drop", &giving_up(1)).await;
    assert_eq!(problem(&nobody), "not-found");
    assert_eq!(problem(&desk.get("/nothing/held").await), "not-found");
    let expected = json!({"by": "grace", "read_model": "directory", "user": id(&ada), "revision": 1, "type": "UserPatched.v1", "reason": "a test wrote it"});
    assert_eq!(decisions(&app).await, [expected]);
}

#[tokio::test]
async fn a_decision_that_lacks_a_reason_or_is_not_bounded_is_refused_with_every_wrong_field() {
    let app = spawn_app().await;
    let desk = Desk::open(&app).await;
    park(&app, "users-77").await;
    let ada = app.created("ada").await;
    let view = view(&app).await;
    view.hold(id(&ada).parse().unwrap(), 0, "a test")
        .await
        .unwrap();
    let pointers = |answer: &(StatusCode, Value)| {
        assert_eq!(problem(answer), "invalid-input");
        let errors = answer.1["errors"].as_array().unwrap().iter();
        let pointers = errors.map(|error| error["pointer"].as_str().unwrap().to_owned());
        pointers.collect::<Vec<_>>()
    };
    for path in [
        "/parked/users-77/skip",
        &format!("/directory/held/{}/drop", id(&ada)),
    ] {
        let nothing = desk.post(path, &json!({})).await;
        assert_eq!(pointers(&nothing), ["#/revision", "#/reason", "#/by"]);
        let long =
            json!({"revision": "x", "by": "x".repeat(101), "reason": "x".repeat(501), "why": ""});
        let long = desk.post(path, &long).await;
        assert_eq!(pointers(&long), ["#/revision", "#/reason", "#/by", "#/why"]);
        let lines = json!({"revision": -1, "by": " ", "reason": "a\nb"});
        let lines = desk.post(path, &lines).await;
        assert_eq!(pointers(&lines), ["#/revision", "#/reason", "#/by"]);
    }
    assert_eq!(decisions(&app).await, Vec::<Value>::new());
}

#[tokio::test]
async fn a_dropped_event_of_a_user_who_is_deleted_meanwhile_is_not_held_any_more() {
    let app = spawn_app().await;
    let desk = Desk::open(&app).await;
    let ada = unreadable(&app).await;
    assert_eq!(app.delete(&ada).await, StatusCode::NO_CONTENT);
    // The read model has not heard of the deletion.
    let path = format!("/directory/held/{}/drop", id(&ada));
    let dropped = desk.post(&path, &giving_up(1)).await;
    assert_eq!(
        (dropped.0, &dropped.1["held"]),
        (StatusCode::OK, &Value::Null)
    );
    let again = desk.post(&path, &giving_up(1)).await;
    assert_eq!(problem(&again), "not-found");
    damage(&app, &ada).await;
    assert_eq!(desk.get("/directory/held").await.1["total"], 0);
}
