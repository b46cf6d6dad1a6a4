//! What every request passes through: a target that is too long and a query that cannot be decoded are refused, HEAD is
//! answered wherever GET is, errors of the framework become problems, and one line is logged.
//!
//! Invariant: the line has the route's template, never the path, the query or an unknown method, which are the caller's text.

use std::time::Instant;

use actix_web::{
    Error, ResponseError as _,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
};

use crate::{Problem, connection::understood, problem, unread::Held};

const KNOWN: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::PUT,
    Method::HEAD,
    Method::OPTIONS,
];

/// The most bytes of path and query. (The parser itself answers 400 above 64 KiB.)
const TARGET_LIMIT: usize = 8 * 1024;

/// Hands on what can be understood, turns answers that are errors without a problem (404, 405, …) into problems, and logs
/// the request: a 500 at WARN, anything else at DEBUG, as a line costs more than answering.
pub(crate) async fn observe(
    mut request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let method = request.method().clone();
    understood(&request);
    let body = Held::of(&mut request);
    let mut response = if let Some(problem) = refused(&request) {
        request.into_response(problem.error_response())
    } else {
        get_for_head(&mut request);
        next.call(request).await?.map_into_boxed_body()
    };
    allow_head(&mut response);
    log(&method, &response, begun);
    let response = with_problem(response);
    Ok(match body {
        Some(body) => body.until_sent(response),
        None => response,
    })
}

/// Why the request cannot be handed on, if it cannot.
fn refused(request: &ServiceRequest) -> Option<Problem> {
    let target = request.uri().path_and_query();
    if target.is_some_and(|target| target.as_str().len() > TARGET_LIMIT) {
        let detail = format!("path and query must not exceed {TARGET_LIMIT} bytes");
        return Some(Problem::new(StatusCode::URI_TOO_LONG, detail));
    }
    if !request.query_string().split(['&', '=']).all(decodes) {
        let detail = "the query cannot be percent-decoded";
        return Some(Problem::bad_request(detail));
    }
    None
}

/// HEAD has the answer of GET (RFC 9110 §9.3.2). The server leaves the body out: it remembers what was asked.
fn get_for_head(request: &mut ServiceRequest) {
    if request.method() == Method::HEAD {
        request.head_mut().method = Method::GET;
    }
}

/// The routes know nothing of HEAD, so a 405 would not say that it is there.
fn allow_head(response: &mut ServiceResponse<BoxBody>) {
    let allowed = response.headers().get(header::ALLOW);
    let Some(allowed) = allowed.and_then(|allowed| allowed.to_str().ok()) else {
        return;
    };
    if allowed.split(", ").any(|method| method == "GET") {
        let allowed = header::HeaderValue::from_str(&format!("{allowed}, HEAD"));
        let allowed = allowed.expect("a header's text with four letters more");
        response.headers_mut().insert(header::ALLOW, allowed);
    }
}

/// Strictly, as the parser behind it is lenient: it would take `%zz` literally and put U+FFFD for `%ff`.
fn decodes(text: &str) -> bool {
    let is_escape = |rest: &str| matches!(rest.as_bytes(), [a, b, ..] if a.is_ascii_hexdigit() && b.is_ascii_hexdigit());
    text.split('%').skip(1).all(is_escape)
        && percent_encoding::percent_decode_str(text)
            .decode_utf8()
            .is_ok()
}

fn log(method: &Method, response: &ServiceResponse<BoxBody>, begun: Instant) {
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
    let micros = u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX);
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
    let mut response =
        response.map_body(|_, _| BoxBody::new(Problem::new(status, said(status)).body()));
    let media_type = header::HeaderValue::from_static(problem::MEDIA_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, media_type);
    response
}

/// Anything in JSON says what it has to say already: a problem, or what is missing for readiness.
fn is_problem(response: &ServiceResponse<BoxBody>) -> bool {
    let media_type = response.headers().get(header::CONTENT_TYPE);
    media_type.is_some_and(|media_type| media_type.as_bytes().ends_with(b"json"))
}

fn said(status: StatusCode) -> &'static str {
    match status {
        StatusCode::NOT_FOUND => "there is nothing here",
        StatusCode::METHOD_NOT_ALLOWED => "this cannot be done here; Allow says what can",
        _ => status.canonical_reason().unwrap_or("it failed"),
    }
}
