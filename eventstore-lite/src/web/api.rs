//! The data for the page: streams by name, and events, newest first.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{ApiError, shown};
use crate::access::Caller;
use crate::event::{Direction, Position};
use crate::http::AppState;
use crate::storage::{AllRead, StorageFailed, StreamPage, StreamRead};
use crate::stream_name::StreamName;

/// The number of events in an answer.
const EVENTS: usize = 50;

pub(super) fn routes(app: AppState) -> Router {
    Router::new()
        .route("/web/api/streams", get(streams))
        .route("/web/api/events", get(events))
        .with_state(app)
}

#[derive(Deserialize)]
struct StreamsQuery {
    #[serde(default)]
    prefix: String,
    #[serde(default)]
    after: String,
}

async fn streams(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    Query(names): Query<StreamsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    // A caller who may read a stream with this name may read all streams whose names begin with it. The exception is
    // `$$`, the prefix of all metastreams, which includes those of system streams.
    let most_restricted = match names.prefix.as_str() {
        "$$" => "$$$",
        prefix => prefix,
    };
    readable(caller, Some(&StreamName::stored(most_restricted)))?;
    let listed = app.storage.list_streams(names.prefix, names.after).await?;
    let next = listed.last().map(|stream| stream.name.as_str().to_owned());
    let streams: Vec<_> = listed
        .iter()
        .map(|stream| {
            json!({
                "name": stream.name.as_str(),
                "last": stream.last.map(|last| last.to_string()),
                "tombstoned": stream.is_tombstoned,
                "deleted": stream.is_soft_deleted,
            })
        })
        .collect();
    Ok(json_answer(&json!({"streams": streams, "next": next})))
}

#[derive(Deserialize)]
pub(super) struct EventsQuery {
    /// `None` means all streams together.
    pub(super) stream: Option<String>,
    /// Events before this revision or position; `None` means from the end.
    before: Option<u64>,
}

impl EventsQuery {
    /// The requested stream, if the caller may read it.
    pub(super) fn stream(&self, caller: Caller) -> Result<Option<StreamName>, ApiError> {
        let name = self.stream.as_deref();
        let name = name
            .map(|name| StreamName::parse(name.as_bytes()))
            .transpose();
        let name =
            name.map_err(|_| ApiError(StatusCode::BAD_REQUEST, "this is not a stream name"))?;
        readable(caller, name.as_ref())?;
        Ok(name)
    }
}

fn readable(caller: Caller, stream: Option<&StreamName>) -> Result<(), ApiError> {
    let allowed = caller.read(stream);
    allowed.map_err(|_| ApiError(StatusCode::FORBIDDEN, "you may not read this"))
}

async fn events(
    State(app): State<AppState>,
    Extension(caller): Extension<Caller>,
    Query(place): Query<EventsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let page = match place.stream(caller)? {
        Some(stream) => of_stream(&app, caller, stream, place.before).await?,
        None => of_all(&app, caller, place.before).await?,
    };
    Ok(json_answer(&page))
}

async fn of_stream(
    app: &AppState,
    caller: Caller,
    stream: StreamName,
    before: Option<u64>,
) -> Result<Value, ApiError> {
    let Some(from) = before.map_or(Some(u64::MAX), |before| before.checked_sub(1)) else {
        return Ok(json!({"events": [], "next": null}));
    };
    let read = StreamRead {
        stream,
        direction: Direction::Backwards,
        from,
        limit: EVENTS as u64,
        resolve_links: true,
    };
    match app.storage.read_stream(read).await? {
        StreamPage::Missing => Err(ApiError(StatusCode::NOT_FOUND, "there is no such stream")),
        StreamPage::Tombstoned => Err(ApiError(
            StatusCode::GONE,
            "this stream is deleted for ever",
        )),
        StreamPage::Events { events, next, .. } => {
            let next = next.map(|next| (next + 1).to_string());
            let events = events.iter().map(|event| shown::event(event, caller));
            let events: Vec<_> = events.collect();
            Ok(json!({"events": events, "next": next}))
        }
    }
}

async fn of_all(app: &AppState, caller: Caller, before: Option<u64>) -> Result<Value, ApiError> {
    let read = AllRead {
        direction: Direction::Backwards,
        from: Position(before.unwrap_or(u64::MAX)),
        limit: EVENTS,
        filter: None,
        resolve_links: true,
    };
    let page = app.storage.read_all(read.clone()).await?;
    let page = page.map_err(|_| ApiError(StatusCode::BAD_REQUEST, "this filter cannot be used"))?;
    let next = (!page.is_end).then(|| page.next(&read).0.to_string());
    let events = page
        .scanned
        .iter()
        .filter_map(|scanned| scanned.event.as_ref());
    let events = events.map(|event| shown::event(event, caller));
    let events: Vec<_> = events.collect();
    Ok(json!({"events": events, "next": next}))
}

fn json_answer(value: &Value) -> impl IntoResponse + use<> {
    ([(CONTENT_TYPE, "application/json")], value.to_string())
}

impl From<StorageFailed> for ApiError {
    fn from(_: StorageFailed) -> Self {
        Self(
            StatusCode::SERVICE_UNAVAILABLE,
            "the storage is not available",
        )
    }
}
