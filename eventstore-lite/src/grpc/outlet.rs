//! The answers of one read, on their way to the client through a bounded channel: a slow client slows only
//! its own read.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::Status;

use super::read_request::{ReadRequest, What};
use super::{read, status, subscribe};
use crate::access::Caller;
use crate::calls::Lasting;
use crate::event::{RecordedEvent, ResolvedEvent, content_type};
use crate::event_id;
use crate::metrics::Metrics;
use crate::storage::{Storage, StorageFailed};
use crate::wire::shared::StreamIdentifier;
use crate::wire::streams::ReadResp;
use crate::wire::streams::read_resp::{Content, ReadEvent, read_event};

/// How many pages of answers wait for the client; one may be larger than 1 MiB.
const WAITING: usize = 1;

/// Answers that belong together; a status is the last.
type Page = Result<Vec<ReadResp>, Status>;
pub(super) type Answers = BoxStream<'static, Result<ReadResp, Status>>;

/// Why a read ended before its end.
#[derive(Debug)]
pub(super) enum Ended {
    ClientGone,
    Failed(Status),
}

impl From<StorageFailed> for Ended {
    fn from(failed: StorageFailed) -> Self {
        Self::Failed(failed.into())
    }
}

impl From<Status> for Ended {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

/// Reads in a task of its own. When the server stops, the client is told so: a subscription never ends well.
pub(super) fn serve(
    storage: &Arc<Storage>,
    caller: Caller,
    request: ReadRequest,
    lasting: Option<Lasting>,
    shutdown: CancellationToken,
) -> Answers {
    let (sender, receiver) = mpsc::channel(WAITING);
    let storage = Arc::clone(storage);
    tokio::spawn(async move {
        let _lasting = lasting;
        let outlet = Outlet {
            sender,
            caller,
            structured_ids: request.structured_ids,
            metrics: Arc::clone(storage.metrics()),
        };
        let ended = tokio::select! {
            ended = run(&storage, request, &outlet) => ended,
            () = shutdown.cancelled() => Err(Ended::Failed(status::unavailable())),
            () = outlet.sender.closed() => Err(Ended::ClientGone),
        };
        if let Err(Ended::Failed(status)) = ended {
            // If the client is gone, there is nobody to tell.
            drop(outlet.sender.send(Err(status)).await);
        }
    });
    ReceiverStream::new(receiver).flat_map(one_by_one).boxed()
}

fn one_by_one(page: Page) -> impl Stream<Item = Result<ReadResp, Status>> {
    let (answers, status) = match page {
        Ok(answers) => (answers, None),
        Err(status) => (vec![], Some(Err(status))),
    };
    stream::iter(answers.into_iter().map(Ok).chain(status))
}

async fn run(storage: &Storage, request: ReadRequest, outlet: &Outlet) -> Result<(), Ended> {
    let ReadRequest {
        what,
        resolve_links,
        positions,
        ..
    } = request;
    let never: Infallible = match what {
        What::Stream(request) => {
            return read::stream(storage, request, (resolve_links, positions), outlet).await;
        }
        What::All(request) => return read::all(storage, request, resolve_links, outlet).await,
        What::FollowStream { stream, from } => {
            let _counted = Arc::clone(storage.metrics()).subscribed();
            subscribe::stream(storage, (stream, from), resolve_links, outlet).await?
        }
        What::FollowAll { from, filter } => {
            let _counted = Arc::clone(storage.metrics()).subscribed();
            subscribe::all(storage, (from, filter), resolve_links, outlet).await?
        }
    };
    match never {}
}

pub(super) struct Outlet {
    sender: mpsc::Sender<Page>,
    caller: Caller,
    structured_ids: bool,
    metrics: Arc<Metrics>,
}

impl Outlet {
    pub(super) async fn send(&self, content: Content) -> Result<(), Ended> {
        self.send_all(vec![content]).await
    }

    /// Sends a page of contents; each costs the client's task less than if it were sent alone.
    pub(super) async fn send_all(&self, contents: Vec<Content>) -> Result<(), Ended> {
        if contents.is_empty() {
            return Ok(());
        }
        let answer = |content| ReadResp {
            content: Some(content),
        };
        let page = contents.into_iter().map(answer).collect();
        let sent = self.sender.send(Ok(page)).await;
        sent.map_err(|_| Ended::ClientGone)
    }

    /// The event as the caller may see it.
    pub(super) fn event(&self, resolved: ResolvedEvent) -> Content {
        let is_kept = self.caller.is_kept_from(&resolved);
        let seen = resolved.event.filter(|_| !is_kept);
        let event = ReadEvent {
            event: seen.map(|event| self.recorded(event)),
            link: resolved.link.map(|link| self.recorded(link)),
            position: Some(read_event::Position::CommitPosition(resolved.position.0)),
        };
        let recorded = event.event.iter().chain(&event.link);
        let bytes = recorded.map(|event| event.data.len() + event.custom_metadata.len());
        self.metrics.read(bytes.sum());
        Content::Event(event)
    }

    fn recorded(&self, event: RecordedEvent) -> read_event::RecordedEvent {
        let content_type = content_type(event.is_json);
        read_event::RecordedEvent {
            id: Some(event_id::write(event.id, self.structured_ids)),
            stream_identifier: Some(StreamIdentifier {
                stream_name: event.stream.as_str().to_owned().into(),
            }),
            stream_revision: event.revision,
            prepare_position: event.position.0,
            commit_position: event.position.0,
            metadata: HashMap::from([
                ("type".to_owned(), event.event_type),
                ("content-type".to_owned(), content_type.to_owned()),
                ("created".to_owned(), event.created.to_string()),
            ]),
            custom_metadata: event.metadata,
            data: event.data,
        }
    }
}
