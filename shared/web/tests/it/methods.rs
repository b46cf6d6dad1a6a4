//! Methods, and headers that every request may have, as RFC 9110 has them.

use reqwest::{Method, StatusCode};
use web::Readiness;

use crate::support::{TestApp, problem, raw, spawn_app};

/// The first line of the answer to this request line, sent with a `Host` and `Connection: close`.
async fn status_line(app: &TestApp, request: &str, headers: &str) -> String {
    let request = format!("{request} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    let answer = raw(app, &request).await;
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test]
async fn a_method_that_a_resource_does_not_have_is_answered_with_those_that_it_has() {
    let app = spawn_app(Readiness::new());
    for (path, allowed) in [
        ("/", "GET, POST, HEAD, OPTIONS"),
        ("/1", "GET, PATCH, HEAD, OPTIONS"),
        ("/_healthz", "GET, HEAD, OPTIONS"),
    ] {
        for method in [Method::DELETE, Method::PUT, Method::TRACE] {
            let response = app.request(method, path).send().await.unwrap();
            assert_eq!(response.headers()["allow"], allowed, "{path}");
            problem(response, 405).await;
        }
        let options = app.request(Method::OPTIONS, path).send().await.unwrap();
        assert_eq!(options.status(), StatusCode::NO_CONTENT, "{path}");
        assert_eq!(options.headers()["allow"], allowed, "{path}");
        let patch_types = options.headers().get("accept-patch");
        assert_eq!(patch_types.is_some(), allowed.contains("PATCH"), "{path}");
        assert!(options.bytes().await.unwrap().is_empty());
    }
    let nowhere = app.request(Method::OPTIONS, "/1/2").send().await.unwrap();
    problem(nowhere, 404).await;
}

#[tokio::test]
async fn options_of_the_whole_server_is_answered() {
    let app = spawn_app(Readiness::new());
    let request = "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let answer = raw(&app, request).await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
    let allowed = "allow: GET, POST, PATCH, DELETE, HEAD, OPTIONS\r\n";
    assert!(answer.contains(allowed), "{answer}");
}

#[tokio::test]
async fn an_unknown_method_is_not_implemented_and_connect_tunnels_nowhere() {
    let app = spawn_app(Readiness::new());
    for method in ["BREW", "get", "X-1"] {
        let unknown = Method::from_bytes(method.as_bytes()).unwrap();
        let response = app.request(unknown, "/").send().await.unwrap();
        problem(response, 501).await;
    }
    let connect = status_line(&app, "CONNECT x:80", "").await;
    assert!(connect.starts_with("HTTP/1.1 4"), "{connect}");
}

#[tokio::test]
async fn a_request_without_exactly_one_host_is_malformed() {
    let app = spawn_app(Readiness::new());
    for (version, hosts, status) in [
        ("HTTP/1.1", "", 400),
        ("HTTP/1.1", "Host: x\r\nHost: x\r\n", 400),
        ("HTTP/1.0", "", 200),
        ("HTTP/1.1", "Host: x\r\n", 200),
    ] {
        let request = format!("GET / {version}\r\n{hosts}Connection: close\r\n\r\n");
        let answer = raw(&app, &request).await;
        assert!(
            answer.contains(&format!(" {status} ")),
            "{request}: {answer}"
        );
    }
}

#[tokio::test]
async fn a_client_that_expects_100_continue_is_told_to_continue() {
    let app = spawn_app(Readiness::new());
    let headers = "Content-Type: application/json\r\nContent-Length: 14\r\nConnection: close\r\n";
    for (expectation, interim) in [("100-Continue", 1), ("200-ok", 0)] {
        let request = format!(
            "POST / HTTP/1.1\r\nHost: x\r\nExpect: {expectation}\r\n{headers}\r\n{{\"name\":\"ada\"}}"
        );
        let answer = raw(&app, &request).await;
        let continued = answer.matches("HTTP/1.1 100 Continue\r\n\r\n").count();
        assert_eq!(continued, interim, "{answer}");
        assert!(answer.contains("HTTP/1.1 201 "), "{answer}");
    }
}

#[tokio::test]
async fn headers_that_offer_or_ask_for_something_else_are_ignored() {
    let app = spawn_app(Readiness::new());
    for header in [
        "Accept: */*;q=0",
        "Accept: image/png",
        "Accept: \"",
        "Range: bytes=0-0",
        "Accept-Encoding: gzip, identity;q=0",
        "Upgrade: websocket\r\nConnection: upgrade",
        "Upgrade: h2c\r\nConnection: upgrade",
        "TE: trailers",
    ] {
        let line = status_line(&app, "GET /", &format!("{header}\r\n")).await;
        assert_eq!(line, "HTTP/1.1 200 OK", "{header}");
    }
}
