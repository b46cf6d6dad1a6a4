//! Bad input changes nothing, and its answer says what is wrong.

use reqwest::{Client, StatusCode};
use serde_json::Value;

use crate::support::{ManualClock, SOME_DAY_MS, Store, spawn_app};

#[tokio::test]
async fn bad_input_is_refused_and_the_field_is_named() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    app.leased().await;
    let cases = [
        ("/?count=0", 422, Some("count")),
        ("/?count=-1", 422, Some("count")),
        ("/?count=abc", 422, Some("count")),
        ("/?count=", 422, Some("count")),
        ("/?count=1.5", 422, Some("count")),
        ("/?count=10001", 422, Some("count")),
        ("/?count=65537", 422, Some("count")),
        ("/?count=18446744073709551616", 422, Some("count")),
        ("/?after=abc", 422, Some("after")),
        ("/?after=-1", 422, Some("after")),
        ("/?after=9223372036854775808", 422, Some("after")),
        ("/?after=18446744073709551615", 422, Some("after")),
        ("/?after=18446744073709551616", 422, Some("after")),
        ("/?count=1&count=2", 422, Some("count")),
        ("/?count=%ff", 400, None),
        ("/?count=%zz", 400, None),
        ("/abc", 404, None),
        ("/-1", 404, None),
        ("/9223372036854775808", 404, None),
        ("/18446744073709551616", 404, None),
        ("/1/2", 404, None),
    ];
    for (path, status, field) in cases {
        let response = app.get(path).await;
        assert_eq!(response.status().as_u16(), status, "{path}");
        assert_eq!(
            response.headers()["content-type"],
            "application/problem+json",
            "{path}"
        );
        let problem: Value = response.json().await.unwrap();
        assert!(problem["message"].is_string(), "{path}");
        assert_eq!(problem["errors"][0]["parameter"].as_str(), field, "{path}");
    }
}

#[tokio::test]
async fn only_get_is_allowed() {
    let store = Store::start().await;
    let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
    for path in ["/", "/1"] {
        let response = Client::new()
            .post(format!("{}{path}", app.url))
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(response.headers()["allow"], "GET, HEAD, OPTIONS");
    }
}
