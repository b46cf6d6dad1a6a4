//! Live events as server-sent events: from the end of a stream, or of all streams, until the page is closed.

use std::convert::Infallible;

use axum::body::Body;
use axum::extract::{Query, State};
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;
use axum::{Extension, Router};
use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use super::api::EventsQuery;
use super::{ApiError, shown};
use crate::access::Caller;
use crate::event::{Direction, Position, ResolvedEvent};
use crate::http::AppState;
use crate::storage::{AllRead, Storage, StorageFailed, StreamFollow};
use crate::stream_name::StreamName;

/// How many events are read at once. The rest waits on disk.
const BATCH: usize = 50;

pub(super) fn routes(app: AppState, shutdown: CancellationToken) -> Router {
    Router::new()
        .route("/web/api/tail", get(tail))
        .with_state((app, shutdown))
}

async fn tail(
    State((app, shutdown)): State<(AppState, CancellationToken)>,
    Extension(caller): Extension<Caller>,
    Query(place): Query<EventsQuery>,
) -> Result<impl IntoResponse, ApiError> {
    let feed = match place.stream(caller)? {
        Some(stream) => Feed::stream(app, caller, stream).await?,
        None => Feed::all(app, caller),
    };
    let headers = [
        (CONTENT_TYPE, "text/event-stream"),
        (CACHE_CONTROL, "no-store"),
    ];
    let body = feed.lines(shutdown).map(Ok::<_, Infallible>);
    Ok((headers, Body::from_stream(body)))
}

struct Feed {
    app: AppState,
    caller: Caller,
    head: watch::Receiver<Position>,
    from: FeedSource,
}

enum FeedSource {
    Stream(StreamFollow),
    All(AllRead),
}

impl Feed {
    async fn stream(app: AppState, caller: Caller, stream: StreamName) -> Result<Self, ApiError> {
        let head = app.storage.head_of(&stream);
        let last = app
            .storage
            .last_revision(stream.clone())
            .await?
            .unwrap_or(None);
        let from = FeedSource::Stream(StreamFollow {
            stream,
            from: last.map_or(0, |last| last + 1),
            resolve_links: true,
            only_visible: false,
            limit: BATCH,
        });
        Ok(Self::new((app, caller), head, from))
    }

    fn all(app: AppState, caller: Caller) -> Self {
        let head = app.storage.head();
        let end = app.storage.committed().following();
        let from = FeedSource::All(AllRead {
            direction: Direction::Forwards,
            from: end,
            limit: BATCH,
            filter: None,
            resolve_links: true,
        });
        Self::new((app, caller), head, from)
    }

    fn new(
        (app, caller): (AppState, Caller),
        head: watch::Receiver<Position>,
        from: FeedSource,
    ) -> Self {
        Self {
            app,
            caller,
            head,
            from,
        }
    }

    /// Reads in a separate task, so that a slow page does not delay other reads.
    fn lines(self, shutdown: CancellationToken) -> ReceiverStream<Bytes> {
        let (sender, receiver) = mpsc::channel(BATCH);
        tokio::spawn(async move {
            tokio::select! {
                () = self.follow(&sender) => {}
                () = sender.closed() => {}
                () = shutdown.cancelled() => {}
            }
        });
        ReceiverStream::new(receiver)
    }

    /// Sends lines until the receiver is gone or the storage fails.
    async fn follow(mut self, lines: &mpsc::Sender<Bytes>) {
        // The first line opens the stream in the browser before anything happens.
        let mut sent = lines.send(Bytes::from_static(b": open\n\n")).await;
        while sent.is_ok() {
            self.head.mark_unchanged();
            let Ok(events) = self.from.read(&self.app.storage).await else {
                return;
            };
            if events.is_empty() && self.head.changed().await.is_err() {
                return;
            }
            for event in events {
                let line = format!("data: {}\n\n", shown::event(&event, self.caller));
                sent = lines.send(line.into()).await;
            }
        }
    }
}

impl FeedSource {
    async fn read(&mut self, storage: &Storage) -> Result<Vec<ResolvedEvent>, StorageFailed> {
        match self {
            Self::Stream(follow) => {
                let followed = storage.follow_stream(follow.clone()).await?;
                follow.from = followed.next;
                Ok(followed.events)
            }
            Self::All(read) => {
                let page = storage.read_all(read.clone()).await?;
                let page = page.map_err(|_| StorageFailed)?;
                read.from = page.next(read);
                let events = page.scanned.into_iter();
                Ok(events.filter_map(|scanned| scanned.event).collect())
            }
        }
    }
}
