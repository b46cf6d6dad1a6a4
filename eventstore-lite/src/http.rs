//! The HTTP routes beside gRPC: health, information about the server, and figures.

use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};

use crate::metrics::{MEDIA_TYPE, MetricsPage};
use crate::node::{Node, VERSION};
use crate::persistent::PersistentSubscriptions;
use crate::storage::Storage;

/// The parts of a running server that its routes and services use.
#[derive(Clone)]
pub(crate) struct AppState {
    pub(crate) storage: Arc<Storage>,
    pub(crate) subscriptions: Arc<PersistentSubscriptions>,
    pub(crate) node: Node,
    /// Whether callers must authenticate as users.
    pub(crate) is_guarded: bool,
}

impl AppState {
    /// All figures, in the text format of Prometheus.
    pub(crate) async fn figures(&self) -> String {
        let mut page = MetricsPage::default();
        self.storage.metrics().write_to(&mut page);
        self.storage.write_figures(&mut page).await;
        self.subscriptions.write_to(&mut page);
        page.into_text()
    }
}

pub(crate) fn routes(app: AppState) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/info", get(info))
        .route("/gossip", get(gossip))
        .route("/metrics", get(metrics))
        .with_state(app)
}

async fn live(State(app): State<AppState>) -> Response {
    if !app.storage.is_alive() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match app.storage.backlog() {
        Some(backlog) => backlog.to_string().into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn info(State(app): State<AppState>) -> impl IntoResponse {
    let authentication = if app.is_guarded { "basic" } else { "insecure" };
    json_page(&json!({
        "dbVersion": VERSION,
        "esVersion": VERSION,
        "state": "leader",
        "features": {"projections": false, "userManagement": false, "atomPub": false},
        "authentication": {"type": authentication, "properties": {}},
        "server": concat!("eventstore-lite ", env!("CARGO_PKG_VERSION")),
    }))
}

async fn gossip(State(app): State<AppState>) -> impl IntoResponse {
    let Node {
        instance,
        host,
        port,
    } = &app.node;
    let head = app.storage.committed().0;
    json_page(&json!({
        "members": [{
            "instanceId": instance,
            "state": "Leader",
            "isAlive": true,
            "httpEndPointIp": host,
            "httpEndPointPort": port,
            "lastCommitPosition": head,
            "writerCheckpoint": head,
            "isReadOnlyReplica": false,
        }],
        "serverIp": host,
        "serverPort": port,
    }))
}

fn json_page(value: &Value) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], value.to_string())
}

async fn metrics(State(app): State<AppState>) -> impl IntoResponse {
    ([(CONTENT_TYPE, MEDIA_TYPE)], app.figures().await)
}
