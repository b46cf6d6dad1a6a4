//! The route `GET /events?from=&type=&user=`.

use super::feed_event::TYPES;
use super::source::{Feed, FeedError};
use super::{Listener, Selection, Start};
use crate::domain::UserId;
use crate::problem_types;
use crate::scopes;
use actix_web::http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use actix_web::web::{Data, ServiceConfig, get, resource};
use actix_web::{HttpRequest, HttpResponse};
use futures::stream;
use serde::Deserialize;
use std::convert::Infallible;
use tokio_util::sync::CancellationToken;
use web::{InputError, Problem, Query, secured};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
const LAST_EVENT_ID: &str = "last-event-id";
const EVENT_STREAM: (HeaderName, HeaderValue) =
    (CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
const NOT_STORED: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// Asks nginx, and those that follow it, to pass on each event at once.
const NOT_BUFFERED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("x-accel-buffering"),
    HeaderValue::from_static("no"),
);

#[derive(Deserialize)]
struct FeedParameters {
    from: Option<String>,
    #[serde(rename = "type")]
    types: Option<String>,
    user: Option<String>,
}

/// The feed, and the token that ends its listeners.
#[derive(Debug, Clone)]
pub struct FeedRoute {
    feed: Feed,
    shutdown: CancellationToken,
}

impl FeedRoute {
    /// Serves this feed until `shutdown`.
    #[must_use]
    pub fn new(feed: Feed, shutdown: CancellationToken) -> Self {
        Self { feed, shutdown }
    }
}

/// Adds `GET /events`. Requires `Data<FeedRoute>`.
pub fn events(config: &mut ServiceConfig) {
    let route = secured(get().to(listen), &[scopes::READ]);
    config.service(resource("/events").route(route));
}

async fn listen(
    route: Data<FeedRoute>,
    request: HttpRequest,
    Query(parameters): Query<FeedParameters>,
) -> Result<HttpResponse, Problem> {
    let (selection, start) = parameters.parse(&request)?;
    let FeedRoute { feed, shutdown } = FeedRoute::clone(&route);
    let listener = Listener::start(feed, selection, start, shutdown).await;
    let listener = listener.map_err(|error| problem(&error))?;
    let texts = stream::unfold(listener, |mut listener| async {
        let text = listener.next().await?;
        Some((Ok::<_, Infallible>(text), listener))
    });
    Ok(HttpResponse::Ok()
        .insert_header(EVENT_STREAM)
        .insert_header(NOT_STORED)
        .insert_header(NOT_BUFFERED)
        .streaming(texts))
}

impl FeedParameters {
    fn parse(&self, request: &HttpRequest) -> Result<(Selection, Start), Problem> {
        let start = match request.headers().get(LAST_EVENT_ID) {
            None => self.from(),
            Some(id) => {
                let position = id.to_str().ok().and_then(|id| id.parse().ok());
                Ok(Start::After(position.ok_or_else(beyond)?))
            }
        };
        match (start, self.types(), self.user()) {
            (Ok(start), Ok(types), Ok(user)) => Ok((Selection { user, types }, start)),
            (start, types, user) => {
                let errors = [start.err(), types.err(), user.err()];
                Err(Problem::invalid_input(
                    errors.into_iter().flatten().collect(),
                ))
            }
        }
    }

    fn from(&self) -> Result<Start, InputError> {
        match self.from.as_deref() {
            None | Some("now") => Ok(Start::Now),
            Some("start") => Ok(Start::Beginning),
            Some(_) => Err(InputError::parameter("from", "`from` must be start or now")),
        }
    }

    /// The types that are named, separated by commas.
    fn types(&self) -> Result<Vec<&'static str>, InputError> {
        let Some(types) = &self.types else {
            return Ok(Vec::new());
        };
        let known = |name| TYPES.into_iter().find(|known| *known == name);
        let all: Option<Vec<_>> = types.split(',').map(known).collect();
        let rule = || format!("`type` must be one or more of {}", TYPES.join(","));
        all.ok_or_else(|| InputError::parameter("type", rule()))
    }

    fn user(&self) -> Result<Option<UserId>, InputError> {
        let user = self.user.as_deref().map(str::parse).transpose();
        user.map_err(|_| InputError::parameter("user", "`user` must be the id of a user"))
    }
}

/// The position is not one of this feed.
fn beyond() -> Problem {
    let detail = "the last event id is none of this feed; start again, for example with from=start";
    Problem::new(problem_types::UNKNOWN_POSITION, detail)
}

fn problem(error: &FeedError) -> Problem {
    match error {
        FeedError::Beyond => beyond(),
        FeedError::Full => problem_types::overloaded("too many clients listen to the events"),
        FeedError::Store(_) | FeedError::NotStarted => {
            Problem::unavailable("the events are temporarily unavailable", RETRY_AFTER)
        }
    }
}
