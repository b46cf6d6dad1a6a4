//! Sends the answers of one read to its client.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tonic::Status;

use crate::access::Caller;
use crate::event::{RecordedEvent, ResolvedEvent, content_type};
use crate::event_id;
use crate::metrics::Metrics;
use crate::storage::StorageFailed;
use crate::wire::shared::StreamIdentifier;
use crate::wire::streams::ReadResp;
use crate::wire::streams::read_resp::{Content, ReadEvent, read_event};

/// Answers that are sent together. A status ends the stream.
pub(super) type AnswerPage = Result<Vec<ReadResp>, Status>;

/// Why a read ended early.
#[derive(Debug)]
pub(super) enum ReadEnd {
    ClientGone,
    Failed(Status),
}

impl From<StorageFailed> for ReadEnd {
    fn from(failed: StorageFailed) -> Self {
        Self::Failed(failed.into())
    }
}

impl From<Status> for ReadEnd {
    fn from(status: Status) -> Self {
        Self::Failed(status)
    }
}

pub(super) struct AnswerSender {
    pub(super) sender: mpsc::Sender<AnswerPage>,
    pub(super) caller: Caller,
    pub(super) structured_ids: bool,
    pub(super) metrics: Arc<Metrics>,
}

impl AnswerSender {
    pub(super) async fn send(&self, content: Content) -> Result<(), ReadEnd> {
        self.send_all(vec![content]).await
    }

    /// Sends several contents as one page, which costs the client's task less than sending each alone.
    pub(super) async fn send_all(&self, contents: Vec<Content>) -> Result<(), ReadEnd> {
        if contents.is_empty() {
            return Ok(());
        }
        let answer = |content| ReadResp {
            content: Some(content),
        };
        let page = contents.into_iter().map(answer).collect();
        let sent = self.sender.send(Ok(page)).await;
        sent.map_err(|_| ReadEnd::ClientGone)
    }

    /// The event in the form that the caller may see.
    pub(super) fn event(&self, resolved: ResolvedEvent) -> Content {
        let is_hidden = self.caller.hides_target(&resolved);
        let seen = resolved.event.filter(|_| !is_hidden);
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
