//! What is served over HTTP beside gRPC: health, who this is, and figures.

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

/// The parts of a running server that its pages and services show.
#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) storage: Arc<Storage>,
    pub(crate) subscriptions: Arc<PersistentSubscriptions>,
    pub(crate) node: Node,
    /// Whether callers must be users.
    pub(crate) is_guarded: bool,
}

impl Site {
    /// All figures, in the text format of Prometheus.
    pub(crate) async fn figures(&self) -> String {
        let mut page = MetricsPage::default();
        self.storage.metrics().write_to(&mut page);
        self.storage.write_figures(&mut page).await;
        self.subscriptions.write_to(&mut page);
        page.into_text()
    }
}

pub(crate) fn routes(site: Site) -> Router {
    Router::new()
        .route("/health/live", get(live))
        .route("/info", get(info))
        .route("/gossip", get(gossip))
        .route("/metrics", get(metrics))
        .with_state(site)
}

async fn live(State(site): State<Site>) -> Response {
    if !site.storage.is_alive() {
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    match site.storage.behind() {
        Some(behind) => behind.to_string().into_response(),
        None => StatusCode::NO_CONTENT.into_response(),
    }
}

async fn info(State(site): State<Site>) -> impl IntoResponse {
    let authentication = if site.is_guarded { "basic" } else { "insecure" };
    json_page(&json!({
        "dbVersion": VERSION,
        "esVersion": VERSION,
        "state": "leader",
        "features": {"projections": false, "userManagement": false, "atomPub": false},
        "authentication": {"type": authentication, "properties": {}},
        "server": concat!("eventstore-lite ", env!("CARGO_PKG_VERSION")),
    }))
}

async fn gossip(State(site): State<Site>) -> impl IntoResponse {
    let Node {
        instance,
        host,
        port,
    } = &site.node;
    let head = site.storage.committed().0;
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

async fn metrics(State(site): State<Site>) -> impl IntoResponse {
    ([(CONTENT_TYPE, MEDIA_TYPE)], site.figures().await)
}
