//! Persistent subscriptions: their state, and the replay of parked events.

use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::ApiError;
use crate::http::AppState;
use crate::persistent::{GroupEnded, GroupKey, Info, Source};

pub(super) fn routes(app: AppState) -> Router {
    Router::new()
        .route("/web/api/groups", get(groups))
        .route("/web/api/groups/replay", post(replay))
        .with_state(app)
}

async fn groups(State(app): State<AppState>) -> Json<Value> {
    let mut groups = Vec::new();
    for (_, group) in app.subscriptions.all() {
        // Groups that have ended in the meantime are omitted.
        groups.extend(group.info().await.ok().as_ref().map(shown));
    }
    Json(json!(groups))
}

fn shown(info: &Info) -> Value {
    let place = |place: Option<u64>| place.map(|place| place.to_string());
    json!({
        "stream": info.key.source.as_str(),
        "group": info.key.group,
        "strategy": info.settings.named_consumer_strategy.name(),
        "state": if info.is_live { "live" } else { "catching up" },
        "clients": info.clients.len().to_string(),
        "in_flight": info.in_flight.to_string(),
        "parked": info.parked.to_string(),
        "checkpoint": place(info.checkpoint),
        "last": place(info.last_known),
    })
}

#[derive(Deserialize)]
struct ReplayRequest {
    stream: String,
    group: String,
}

/// Accepts only JSON, which a foreign web page cannot send.
async fn replay(
    State(app): State<AppState>,
    Json(ReplayRequest { stream, group }): Json<ReplayRequest>,
) -> Result<StatusCode, ApiError> {
    let source = Source::named(&stream);
    let key = GroupKey { source, group };
    let group = app.subscriptions.find(&key).await.ok_or(NO_GROUP)?;
    group.replay_parked(None).await?;
    Ok(StatusCode::ACCEPTED)
}

const NO_GROUP: ApiError = ApiError(
    StatusCode::NOT_FOUND,
    "there is no such persistent subscription",
);

impl From<GroupEnded> for ApiError {
    fn from(_: GroupEnded) -> Self {
        NO_GROUP
    }
}
