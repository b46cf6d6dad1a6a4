//! Each case of bad input is answered with its status and the name of the wrong field.

use reqwest::{Method, StatusCode};
use web::Readiness;

use crate::support::{GOOD, problem, raw, spawn_app, spawn_impatient_app};

const NO_NAMES: [&str; 0] = [];

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
async fn a_wrong_body_is_refused_and_every_wrong_field_is_named() {
    let app = spawn_app(Readiness::new());
    let cases: [(&str, u16, &[&str]); 19] = [
        ("", 400, &[]),
        ("{", 400, &[]),
        (r#"{"name":"ada"} x"#, 400, &[]),
        (r#"{"name":"ada"}{"name":"ada"}"#, 400, &[]),
        (r#"{"name":5,"note":"#, 400, &[]),
        (r#"{"name":"ada\ud800"}"#, 400, &[]),
        (r#"{"name":"ada","other":["\udc00"]}"#, 400, &[]),
        (r#"{"name":1e999999}"#, 400, &[]),
        ("[1,", 400, &[]),
        ("[]", 422, &["#"]),
        ("null", 422, &["#"]),
        (r#"["ada","ada"]"#, 422, &["#"]),
        ("{}", 422, &["#/name"]),
        (r#"{"name":null,"note":null}"#, 422, &["#/name", "#/note"]),
        (
            r#"{"name":["ada"],"note":true}"#,
            422,
            &["#/name", "#/note"],
        ),
        (r#"{"name":"ada","name":"ada"}"#, 422, &["#/name"]),
        (r#"{"name":"ada","nam\u0065":"ada"}"#, 422, &["#/name"]),
        (
            r#"{"note":{},"numbér":7}"#,
            422,
            &["#/name", "#/note", "#/numb%C3%A9r"],
        ),
        (r#"{"name":"ada","a/b~":7}"#, 422, &["#/a~1b~0"]),
    ];
    for (body, status, fields) in cases {
        let response = app.post(body).send().await.unwrap();
        assert_eq!(problem(response, status).await, fields, "{body}");
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
async fn a_body_over_16_kib_is_too_large_whether_announced_or_not() {
    let app = spawn_app(Readiness::new());
    let of = |length: usize| format!("{GOOD}{}", " ".repeat(length - GOOD.len()));
    let chunked = |body: String| {
        let halves = [body[..100].to_owned(), body[100..].to_owned()];
        reqwest::Body::wrap_stream(futures::stream::iter(halves.map(Ok::<_, std::io::Error>)))
    };
    for body in [reqwest::Body::from(of(16 * 1024)), chunked(of(16 * 1024))] {
        let largest = app.post(body).send().await.unwrap();
        assert_eq!(largest.status(), StatusCode::CREATED);
    }
    for length in [16 * 1024 + 1, 1_000_000] {
        for body in [reqwest::Body::from(of(length)), chunked(of(length))] {
            problem(app.post(body).send().await.unwrap(), 413).await;
        }
    }
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
async fn a_body_of_another_media_type_is_refused_and_the_answer_lists_those_that_are_not() {
    let app = spawn_app(Readiness::new());
    let json = "application/json";
    let both = "application/merge-patch+json, application/json";
    for (method, path, header, accepted) in [
        (Method::POST, "/", "accept", json),
        (Method::PATCH, "/1", "accept-patch", both),
    ] {
        let wrong: [&[&str]; 8] = [
            &[],
            &["text/plain"],
            &["application/x-www-form-urlencoded"],
            &["application/json+x"],
            &["application/*"],
            &["ada"],
            &[""],
            &[json, json],
        ];
        for media_types in wrong {
            let mut request = app.request(method.clone(), path).body(GOOD);
            for media_type in media_types {
                request = request.header("content-type", *media_type);
            }
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()[header], accepted, "{media_types:?}");
            assert_eq!(problem(response, 415).await, NO_NAMES);
        }
        for media_type in accepted.split(", ") {
            for spelling in [
                media_type.to_owned(),
                media_type.to_uppercase(),
                format!("{media_type}; charset=utf-8"),
            ] {
                let request = app.request(method.clone(), path);
                let request = request.header("content-type", &spelling);
                let response = request.body(r#"{"name":"ada"}"#).send().await.unwrap();
                assert!(response.status().is_success(), "{spelling}");
            }
        }
    }
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
            let response = request.send().await.unwrap();
            assert_eq!(response.headers()["accept-encoding"], "identity");
            problem(response, 415).await;
        }
    }
    let identity = app.post(GOOD).header("content-encoding", "Identity");
    let created = identity.send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
}

#[tokio::test]
async fn a_byte_that_is_not_utf_8_is_refused_wherever_it_is() {
    let app = spawn_app(Readiness::new());
    for body in [
        &b"{\"name\":\"\xff\"}"[..],
        b"{\"name\":\"x\",\"other\":\"\xff\"}",
        b"{\"name\":\"x\",\"other\":[{\"\xc3\x28\":1}]}",
        b"{\"name\":\"x\"}\xff",
        // UTF-16 with its mark.
        b"\xfe\xff\0{\0}",
    ] {
        problem(app.post(body.to_vec()).send().await.unwrap(), 400).await;
    }
    let created = app.post(r#"{"name":"é"}"#).send().await.unwrap();
    assert_eq!(created.status(), StatusCode::CREATED);
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
    let cases: [(&str, u16, &[&str]); 9] = [
        ("limit=%ff", 400, &[]),
        ("limit=%zz", 400, &[]),
        ("limit=5&x=%", 400, &[]),
        ("%e9=1", 400, &[]),
        ("limit=", 422, &["limit"]),
        ("limit=ada", 422, &["limit"]),
        ("limit=-1", 422, &["limit"]),
        ("limit=65536", 422, &["limit"]),
        ("limit=1&limit=2", 422, &["limit"]),
    ];
    for (query, status, parameters) in cases {
        let request = app.request(Method::GET, &format!("/?{query}"));
        let response = request.send().await.unwrap();
        assert_eq!(problem(response, status).await, parameters, "{query}");
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
