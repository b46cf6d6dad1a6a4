//! Bad input: each case of it gets its status, and the field that is to blame.

use reqwest::{Method, StatusCode};
use web::Readiness;

use crate::support::{problem, spawn_app};

const GOOD: &str = r#"{"name":"ada","address":{"number":7}}"#;

#[tokio::test]
async fn good_input_is_taken() {
    let app = spawn_app(Readiness::new());
    let created = app.post(GOOD).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
    for path in [
        "/?limit=5",
        "/?limit=%35&other=%C3%A9",
        "/0",
        "/18446744073709551615",
    ] {
        let response = app.request(Method::GET, path).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn a_body_is_refused_with_the_field_to_blame() {
    let app = spawn_app(Readiness::new());
    let cases = [
        ("", 400, None),
        ("{", 400, None),
        (r#"{"name":"ada","address":{"number":7}} x"#, 400, None),
        (r#"{"name":5,"address":"#, 400, None),
        ("[1,", 400, None),
        ("[]", 422, None),
        ("null", 422, None),
        (r#"["ada",[7]]"#, 422, None),
        ("{}", 422, Some("name")),
        (r#"{"name":null,"address":{"number":7}}"#, 422, Some("name")),
        (
            r#"{"name":["ada"],"address":{"number":7}}"#,
            422,
            Some("name"),
        ),
        (r#"{"name":"ada","name":"ada"}"#, 422, Some("name")),
        (r#"{"name":"ada"}"#, 422, Some("address")),
        (
            r#"{"name":"ada","address":{}}"#,
            422,
            Some("address.number"),
        ),
        (
            r#"{"name":"ada","address":{"number":"ada"}}"#,
            422,
            Some("address.number"),
        ),
        (
            r#"{"name":"ada","address":{"number":-1}}"#,
            422,
            Some("address.number"),
        ),
        (
            r#"{"name":"ada","address":{"number":65536}}"#,
            422,
            Some("address.number"),
        ),
    ];
    for (body, status, field) in cases {
        let response = app.post(body).send().await.unwrap();
        assert_eq!(problem(response, status).await.as_deref(), field, "{body}");
    }
    let deep = format!(r#"{{"name":{}"#, "[".repeat(10_000));
    problem(app.post(deep).send().await.unwrap(), 400).await;
    problem(
        app.post(b"{\"name\":\"\xff\"}".to_vec())
            .send()
            .await
            .unwrap(),
        400,
    )
    .await;
}

#[tokio::test]
async fn a_body_over_the_limit_is_too_large_whether_announced_or_not() {
    let app = spawn_app(Readiness::new());
    let name = "x".repeat(1_000_000);
    let large = format!(r#"{{"name":"{name}","address":{{"number":7}}}}"#);
    problem(app.post(large.clone()).send().await.unwrap(), 413).await;
    let chunked = reqwest::Body::wrap_stream(futures::stream::once(async {
        Ok::<_, std::io::Error>(large)
    }));
    problem(app.post(chunked).send().await.unwrap(), 413).await;
}

#[tokio::test]
async fn a_body_of_another_media_type_is_refused() {
    let app = spawn_app(Readiness::new());
    for media_type in ["text/plain", "application/x-www-form-urlencoded", "ada", ""] {
        let request = app
            .request(Method::POST, "/")
            .header("content-type", media_type);
        problem(request.body(GOOD).send().await.unwrap(), 415).await;
    }
    problem(app.request(Method::POST, "/").send().await.unwrap(), 415).await;
}

#[tokio::test]
async fn a_query_is_refused_with_the_parameter_to_blame() {
    let app = spawn_app(Readiness::new());
    let cases = [
        ("limit=%ff", 400, None),
        ("limit=%zz", 400, None),
        ("limit=5&x=%", 400, None),
        ("%e9=1", 400, None),
        ("limit=", 422, Some("limit")),
        ("limit=ada", 422, Some("limit")),
        ("limit=-1", 422, Some("limit")),
        ("limit=65536", 422, Some("limit")),
        ("limit=1&limit=2", 422, Some("limit")),
    ];
    for (query, status, field) in cases {
        let response = app
            .request(Method::GET, &format!("/?{query}"))
            .send()
            .await
            .unwrap();
        assert_eq!(problem(response, status).await.as_deref(), field, "{query}");
    }
}

#[tokio::test]
async fn a_query_that_cannot_be_decoded_is_refused_on_every_route() {
    let app = spawn_app(Readiness::new());
    for path in ["/1?%zz", "/_healthz?x=%ff", "/_readyz?%", "/1/2?x=%zz"] {
        problem(app.request(Method::GET, path).send().await.unwrap(), 400).await;
    }
    let created = app
        .request(Method::POST, "/?x=%zz")
        .header("content-type", "application/json")
        .body(GOOD);
    problem(created.send().await.unwrap(), 400).await;
}

#[tokio::test]
async fn what_is_not_there_is_not_found() {
    let app = spawn_app(Readiness::new());
    for path in [
        "/ada",
        "/-1",
        "/+1",
        "/01",
        "/18446744073709551616",
        "/%ff",
        "/%31x",
        "/1/2",
        "//",
    ] {
        problem(app.request(Method::GET, path).send().await.unwrap(), 404).await;
    }
}

#[tokio::test]
async fn a_method_that_is_not_there_is_answered_with_those_that_are() {
    let app = spawn_app(Readiness::new());
    let response = app.request(Method::DELETE, "/").send().await.unwrap();
    let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
    problem(response, 405).await;
    assert_eq!(allowed, "GET, POST, HEAD");
}
