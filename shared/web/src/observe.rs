//! What every request passes through: errors of the framework become problems, and one line is logged.
//!
//! Invariant: the line has the route's template, never the path, the query or an unknown method, which are the caller's text.

use std::time::Instant;

use actix_web::{
    Error,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{Method, StatusCode, header},
    middleware::Next,
};

use crate::{Problem, problem};

const KNOWN: [Method; 7] = [
    Method::GET,
    Method::POST,
    Method::PATCH,
    Method::DELETE,
    Method::PUT,
    Method::HEAD,
    Method::OPTIONS,
];

/// Turns answers that are errors without a problem (404, 405, …) into problems, and logs the request:
/// a 500 at WARN, anything else at DEBUG, as a line costs more than answering.
pub(crate) async fn observe(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let begun = Instant::now();
    let response = next.call(request).await?;
    log(&response, begun);
    Ok(with_problem(response.map_into_boxed_body()))
}

fn log<B>(response: &ServiceResponse<B>, begun: Instant) {
    let failed = response.status() == StatusCode::INTERNAL_SERVER_ERROR;
    if !failed && !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    let request = response.request();
    let method = KNOWN.iter().find(|known| *known == request.method());
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
