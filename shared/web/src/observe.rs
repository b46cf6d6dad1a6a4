//! The middleware of every request. It refuses requests that no route may see, answers HEAD wherever GET is routed and
//! OPTIONS wherever anything is, turns errors of the framework into problems, and logs one line.
//!
//! Invariant: the line has the route's template, never the path, the query or an unknown method, because these are the
//! caller's text.

use std::time::Instant;

use actix_web::{
    Error, HttpResponse, ResponseError as _,
    body::{self, BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        Method, StatusCode, Version,
        header::{self, HeaderValue},
    },
    middleware::Next,
};

use crate::{
    Problem,
    connection::had_request,
    extract::{ACCEPT_PATCH, PATCH_TYPES},
    problem, problem_types,
    unread::HeldBody,
};

/// The methods of RFC 9110 and RFC 5789. Only these are logged by name.
const KNOWN: [Method; 9] = [
    Method::GET,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::PUT,
    Method::HEAD,
    Method::OPTIONS,
    Method::TRACE,
    Method::CONNECT,
];

const UNKNOWN_METHOD: &str = "this service does not know the method";
const ONE_HOST: &str = "the request must have exactly one header Host";

/// The maximum length of path and query together, in bytes. (The parser itself answers 400 above 64 KiB.)
const TARGET_LIMIT: usize = 8 * 1024;

/// Passes on valid requests, gives framework errors (404, 405, …) a problem body, and logs the request. A 500 is logged at
/// WARN, every other answer at DEBUG, because a log line costs more than the answer.
pub(crate) async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let started = Instant::now();
    let method = request.method().clone();
    had_request(&request);
    let held = HeldBody::of(&mut request);
    let mut response = if let Some(problem) = refused(&request) {
        request.into_response(problem.error_response())
    } else if method == Method::OPTIONS && request.path() == "*" {
        request.into_response(options_of_server())
    } else {
        get_for_head(&mut request);
        next.call(request).await?.map_into_boxed_body()
    };
    complete_allow(&method, &mut response);
    log(&method, &response, started);
    let response = without_endless_body(&method, with_problem(response));
    Ok(match held {
        Some(held) => held.until_sent(response),
        None => response,
    })
}

/// The problem with this request, if it must not be passed on.
fn refused(request: &ServiceRequest) -> Option<Problem> {
    let problem = |kind, detail| Some(Problem::new(kind, detail));
    if !KNOWN.contains(request.method()) {
        return problem(problem_types::NOT_IMPLEMENTED, UNKNOWN_METHOD.to_owned());
    }
    // RFC 9112 §3.2 demands this refusal. HTTP/1.0 had no such header.
    let hosts = request.headers().get_all(header::HOST).count();
    if hosts > 1 || (hosts == 0 && request.version() == Version::HTTP_11) {
        return problem(problem_types::MALFORMED_REQUEST, ONE_HOST.to_owned());
    }
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > TARGET_LIMIT) {
        let detail = format!("path and query must not exceed {TARGET_LIMIT} bytes");
        return problem(problem_types::TARGET_TOO_LONG, detail);
    }
    if !request.query_string().split(['&', '=']).all(decodes) {
        let detail = "the query cannot be percent-decoded".to_owned();
        return problem(problem_types::MALFORMED_QUERY, detail);
    }
    None
}

/// `OPTIONS *` asks about the server, not about a resource (RFC 9110 §9.3.7). [`complete_allow`] adds HEAD and OPTIONS.
fn options_of_server() -> HttpResponse {
    HttpResponse::NoContent()
        .insert_header((header::ALLOW, "GET, POST, PATCH, DELETE"))
        .finish()
}

/// Routes HEAD like GET (RFC 9110 §9.3.2). The server still knows the original method and omits the body.
fn get_for_head(request: &mut ServiceRequest) {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
}

/// The server reads the body of an answer to HEAD, although it does not send it. A body of unknown length may have no end.
fn without_endless_body(
    method: &Method,
    response: ServiceResponse<BoxBody>,
) -> ServiceResponse<BoxBody> {
    if method == Method::HEAD && response.response().body().size() == BodySize::Stream {
        return response.map_body(|_, _| BoxBody::new(body::None::new()));
    }
    response
}

/// Adds HEAD and OPTIONS to the `Allow` header of a 405, because the routes do not know these methods. To OPTIONS, the
/// methods are the answer and not an error.
fn complete_allow(method: &Method, response: &mut ServiceResponse<BoxBody>) {
    let allowed = response.headers().get(header::ALLOW);
    let Some(allowed) = allowed.and_then(|allowed| allowed.to_str().ok()) else {
        return;
    };
    let has = |wanted| allowed.split(", ").any(|method| method == wanted);
    let head = if has("GET") { ", HEAD" } else { "" };
    let patchable = has("PATCH");
    let methods = HeaderValue::from_str(&format!("{allowed}{head}, OPTIONS"));
    let methods = methods.expect("a valid header with more methods stays valid");
    let headers = response.headers_mut();
    headers.insert(header::ALLOW, methods);
    if patchable {
        headers.insert(ACCEPT_PATCH, HeaderValue::from_static(PATCH_TYPES));
    }
    if method == Method::OPTIONS {
        *response.response_mut().status_mut() = StatusCode::NO_CONTENT;
    }
}

/// Whether the text can be percent-decoded. This check is strict, because the later parser is lenient: it would keep `%zz`
/// literally and replace `%ff` by U+FFFD.
fn decodes(text: &str) -> bool {
    let is_escape = |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    text.split('%').skip(1).all(is_escape)
        && percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .is_ok()
}

fn log(method: &Method, response: &ServiceResponse<BoxBody>, started: Instant) {
    let failed = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
    if !failed && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let request = response.request();
    let method = KNOWN.iter().find(|known| *known == method);
    let method = method.map_or("other", Method::as_str);
    let pattern = request.match_pattern();
    let route = pattern.as_deref().unwrap_or("none");
    let status = response.status().as_u16();
    let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    if failed {
        tracing::warn!(method, route, status, micros, "answered");
    } else {
        tracing::debug!(method, route, status, micros, "answered");
    }
}

fn with_problem(response: ServiceResponse<BoxBody>) -> ServiceResponse<BoxBody> {
    let status = response.status();
    if status.as_u16() < 400 || is_problem(&response) {
        return response;
    }
    let problem = Problem::new(problem_types::of_status(status), detail(status));
    let mut response = response.map_body(|_, _| BoxBody::new(problem.body()));
    let media_type = HeaderValue::from_static(problem::MEDIA_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

/// Whether the answer is already JSON: a problem, or the readiness of the service.
fn is_problem(response: &ServiceResponse<BoxBody>) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type.as_bytes().ends_with(b"json"))
}

/// The detail of a framework error.
fn detail(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "there is nothing here",
        StatusCode::METHOD_NOT_ALLOWED => {
            "this method is not allowed here; the header Allow lists those that are"
        }
        _ => status.canonical_reason().unwrap_or("the request failed"),
    }
}
