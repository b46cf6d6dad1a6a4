//! A web page to browse streams, events, live events, persistent subscriptions and figures. It is part of the binary
//! and needs nothing else.
//!
//! Invariants: Callers see nothing here that they may not read over gRPC. Numbers are sent as texts, because browsers
//! round numbers above 2⁵³. Streams and events come in pages.

mod api;
mod groups;
mod shown;
mod tail;

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE};
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio_util::sync::CancellationToken;

use crate::http::AppState;

const PAGE: &str = include_str!("web/page.html");
const SCRIPT: &str = include_str!("web/app.js");
const STYLE: &str = include_str!("web/style.css");

/// Nothing from other servers is loaded or run, so the content of an event can do no harm.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(crate) fn routes(app: AppState, shutdown: CancellationToken) -> Router {
    Router::new()
        .route(
            "/web",
            get(async || asset("text/html; charset=utf-8", PAGE)),
        )
        .route(
            "/web/app.js",
            get(async || asset("text/javascript; charset=utf-8", SCRIPT)),
        )
        .route(
            "/web/style.css",
            get(async || asset("text/css; charset=utf-8", STYLE)),
        )
        .merge(api::routes(app.clone()))
        .merge(groups::routes(app.clone()))
        .merge(tail::routes(app, shutdown))
}

fn asset(media_type: &'static str, content: &'static str) -> impl IntoResponse {
    let headers: [(HeaderName, &str); 3] = [
        (CONTENT_TYPE, media_type),
        (CONTENT_SECURITY_POLICY, POLICY),
        (CACHE_CONTROL, "no-cache"),
    ];
    (headers, content)
}

/// An error answer of the API.
struct ApiError(StatusCode, &'static str);

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}
