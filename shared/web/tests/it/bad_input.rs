//! Each case of bad input is answered with its status and the name of the wrong field.

use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use web::Readiness;

use crate::support::{TestApp, problem, spawn_app, spawn_impatient_app};

const GOOD: &str = r#"{"name":"ada","address":{"number":7}}"#;

#[tokio::test]
async fn good_input_is_accepted() {
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
async fn a_wrong_body_is_refused_and_the_field_is_named() {
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

/// Sends these bytes and returns everything that the server answers until the connection ends.
async fn raw(app: &TestApp, request: &str) -> String {
    let address = app.url.trim_start_matches("http://");
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    let read = stream.read_to_string(&mut answer);
    let ended = tokio::time::timeout(Duration::from_mins(1), read).await;
    ended.expect("the connection ends").unwrap();
    answer
}

#[tokio::test]
async fn a_body_that_never_comes_is_answered_and_its_connection_ends() {
    let app = spawn_impatient_app();
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    for partial in [
        "Content-Length: 100\r\n\r\n",
        "Content-Length: 100\r\n\r\n{",
        "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
    ] {
        let answer = raw(&app, &format!("{head}{partial}")).await;
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(answer.contains("application/problem+json"), "{answer}");
    }
}

#[tokio::test]
async fn a_body_that_nobody_reads_keeps_no_connection() {
    let app = spawn_app(Readiness::new());
    for (request, status) in [
        ("GET / ", "200"),
        ("GET /ada ", "404"),
        ("DELETE / ", "405"),
    ] {
        for partial in [
            "Content-Length: 100\r\n\r\n{",
            "Transfer-Encoding: chunked\r\n\r\n1\r\n{\r\n",
        ] {
            let answer = raw(&app, &format!("{request}HTTP/1.1\r\nHost: x\r\n{partial}")).await;
            let expected = format!("HTTP/1.1 {status} ");
            assert!(
                answer.starts_with(&expected),
                "{request}{partial}: {answer}"
            );
        }
    }
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
async fn a_body_with_a_content_coding_is_refused_whether_it_is_really_coded_or_not() {
    let app = spawn_app(Readiness::new());
    let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    for body in [GOOD.as_bytes(), gzip.as_slice()] {
        for codings in [
            &["gzip"][..],
            &["br"],
            &["identity, gzip"],
            &["identity", "x"],
            &[""],
        ] {
            let mut request = app.post(body.to_vec());
            for coding in codings {
                request = request.header("content-encoding", *coding);
            }
            problem(request.send().await.unwrap(), 415).await;
        }
    }
    let identity = app.post(GOOD).header("content-encoding", "Identity");
    let created = identity.send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_byte_that_is_not_utf_8_is_refused_wherever_it_is() {
    let app = spawn_app(Readiness::new());
    let (begin, end) = GOOD.split_at(1);
    for member in [&b"\"note\":\"\xff\","[..], b"\"note\":[{\"\xc3\x28\":1}],"] {
        let body = [begin.as_bytes(), member, end.as_bytes()].concat();
        problem(app.post(body).send().await.unwrap(), 400).await;
    }
    let body = format!("{begin}\"note\":\"é\",{end}");
    let created = app.post(body).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn an_unknown_member_is_named_where_the_body_denies_it() {
    let app = spawn_app(Readiness::new());
    for (body, field) in [
        (
            r#"{"name":"ada","address":{"number":7,"floor":1}}"#,
            "address.floor",
        ),
        (r#"{"name":"ada","address":{"numbér":7}}"#, "address.numbér"),
    ] {
        let response = app.post(body).send().await.unwrap();
        assert_eq!(problem(response, 422).await.as_deref(), Some(field));
    }
}

#[tokio::test]
async fn a_target_over_8_kib_is_too_long() {
    let app = spawn_app(Readiness::new());
    let of = |length: usize| format!("/?other={}", "x".repeat(length - "/?other=".len()));
    let longest = app.request(Method::GET, &of(8 * 1024)).send().await;
    assert_eq!(longest.unwrap().status(), StatusCode::OK);
    let paths = [of(8 * 1024 + 1), format!("/{}", "1".repeat(60_000))];
    for path in paths {
        problem(app.request(Method::GET, &path).send().await.unwrap(), 414).await;
    }
}

#[tokio::test]
async fn a_wrong_query_is_refused_and_the_parameter_is_named() {
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
async fn an_unknown_path_is_not_found() {
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
async fn an_unknown_method_is_answered_with_the_allowed_methods() {
    let app = spawn_app(Readiness::new());
    let response = app.request(Method::DELETE, "/").send().await.unwrap();
    let allowed = response.headers()["allow"].to_str().unwrap().to_owned();
    problem(response, 405).await;
    assert_eq!(allowed, "GET, POST, HEAD");
}
