//! The forms of an answer over HTTP: JSON, or one id a line.

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::support::{ManualClock, SOME_DAY_MS, Store, TestApp, spawn_app};

async fn accepting(app: &TestApp, accept: &str, path: &str) -> reqwest::Response {
    let request = Client::new().get(format!("{}{path}", app.url));
    request.header("accept", accept).send().await.unwrap()
}

#[tokio::test]
async fn plain_text_has_one_id_a_line() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.leased().await;
    for count in [1, 10_000] {
        let before = app.ids("").await[0];
        let answer = accepting(&app, "text/plain", &format!("/?count={count}")).await;
        assert_eq!(answer.status(), StatusCode::OK);
        let content_type = &answer.headers()["content-type"];
        assert_eq!(content_type, "text/plain; charset=utf-8");
        assert_eq!(answer.headers()["vary"], "accept");
        let text = answer.text().await.unwrap();
        assert!(text.ends_with('\n'));
        let ids: Vec<u64> = text.lines().map(|id| id.parse().unwrap()).collect();
        assert_eq!(ids.len(), count);
        assert!(ids[0] > before && ids.is_sorted_by(|a, b| a < b));
    }
}

#[tokio::test]
async fn an_accept_that_cannot_be_met_is_answered_406_and_uses_up_no_id() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.leased().await;
    let before = app.ids("").await[0];
    for accept in ["text/html", "application/xml, text/html", "*/*;q=0"] {
        let refused = accepting(&app, accept, "/?count=10000").await;
        assert_eq!(refused.status(), StatusCode::NOT_ACCEPTABLE, "{accept}");
        let problem: Value = refused.json().await.unwrap();
        assert!(problem["message"].is_string(), "{problem}");
    }
    assert_eq!(app.ids("").await[0], before + 1);
}
