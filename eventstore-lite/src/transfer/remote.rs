//! A client of a server.

use anyhow::{Context as _, Result, anyhow};
use bytes::Bytes;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use uuid::Uuid;

use super::address::{self, Headers};
use crate::event_id;
use crate::stream_name::StreamName;
use crate::wire::shared::{Empty, StreamIdentifier};
use crate::wire::streams::append_req::options::ExpectedStreamRevision;
use crate::wire::streams::append_req::{self, ProposedMessage};
use crate::wire::streams::append_resp;
use crate::wire::streams::append_resp::success::PositionOption;
use crate::wire::streams::append_resp::wrong_expected_version::CurrentRevisionOption;
use crate::wire::streams::read_req::Options;
use crate::wire::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions, UuidOption,
    all_options, stream_options, uuid_option,
};
use crate::wire::streams::read_resp::{Content, ReadEvent};
use crate::wire::streams::streams_client::StreamsClient;
use crate::wire::streams::tombstone_req;
use crate::wire::streams::tombstone_req::options::ExpectedStreamRevision as Untouched;
use crate::wire::streams::{AppendReq, ReadReq, ReadResp, TombstoneReq};

/// The maximum size of a message, as in the official clients.
const LARGEST_MESSAGE: usize = 17 * 1024 * 1024;

/// An event that was read.
pub(super) struct RemoteEvent {
    pub(super) stream: StreamName,
    pub(super) revision: u64,
    pub(super) id: Uuid,
    pub(super) event_type: String,
    pub(super) content_type: String,
    /// In ticks.
    pub(super) created: Option<i64>,
    pub(super) data: Bytes,
    pub(super) metadata: Bytes,
    /// Its position in the log.
    pub(super) position: u64,
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RemoteOutcome {
    /// The change is done, now or since an earlier attempt.
    Done,
    /// The stream ends with another revision, or `None` if it has no events.
    Conflict(Option<u64>),
    /// The events were written before the stream was deleted, and were not written again.
    DeletedSince,
    Tombstoned,
}

/// A connection to a server.
pub(crate) struct Remote {
    streams: StreamsClient<InterceptedService<Channel, Headers>>,
}

impl Remote {
    /// Connects to the server of a connection string like `esdb://user:password@host:2113?tls=true&tlsCaFile=ca.pem`.
    ///
    /// # Errors
    /// If the string cannot be used, or the server does not answer. The error never contains the password.
    pub(crate) async fn connect(url: &str) -> Result<Self> {
        let (endpoint, headers) = address::parse(url)?;
        let channel = endpoint.connect().await;
        let channel = channel.with_context(|| format!("connecting to {}", endpoint.uri()))?;
        let streams = StreamsClient::with_interceptor(channel, headers);
        Ok(Self {
            streams: streams.max_decoding_message_size(LARGEST_MESSAGE),
        })
    }

    /// The last position of the log, if it has events.
    pub(super) async fn end(&mut self) -> Result<Option<u64>> {
        let end = all_options::AllOption::End(Empty {});
        let answers = self.read(all(end), 1, ReadDirection::Backwards).await?;
        Ok(first_of(answers).await?.map(|last| last.position))
    }

    pub(super) async fn all(&mut self) -> Result<Streaming<ReadResp>> {
        let start = all_options::AllOption::Start(Empty {});
        self.read(all(start), u64::MAX, ReadDirection::Forwards)
            .await
    }

    pub(super) async fn stream(&mut self, name: &StreamName) -> Result<Streaming<ReadResp>> {
        self.read(from_start(name), u64::MAX, ReadDirection::Forwards)
            .await
    }

    /// The first readable revision of a stream, if there is one.
    pub(super) async fn first_revision(&mut self, name: &StreamName) -> Result<Option<u64>> {
        let answers = self
            .read(from_start(name), 1, ReadDirection::Forwards)
            .await?;
        Ok(first_of(answers).await?.map(|first| first.revision))
    }

    async fn read(
        &mut self,
        stream: StreamOption,
        count: u64,
        direction: ReadDirection,
    ) -> Result<Streaming<ReadResp>> {
        let options = Options {
            read_direction: direction.into(),
            resolve_links: false,
            uuid_option: Some(UuidOption {
                content: Some(uuid_option::Content::String(Empty {})),
            }),
            control_option: None,
            stream_option: Some(stream),
            count_option: Some(CountOption::Count(count)),
            filter_option: Some(FilterOption::NoFilter(Empty {})),
        };
        let request = ReadReq {
            options: Some(options),
        };
        let answers = self.streams.read(request).await;
        Ok(answers.map_err(|status| refused(&status))?.into_inner())
    }

    /// Appends to a stream whose next revision is `next`.
    pub(super) async fn append(
        &mut self,
        stream: &str,
        next: u64,
        events: Vec<ProposedMessage>,
    ) -> Result<RemoteOutcome> {
        let expected = next.checked_sub(1).map_or(
            ExpectedStreamRevision::NoStream(Empty {}),
            ExpectedStreamRevision::Revision,
        );
        let options = append_req::Content::Options(append_req::Options {
            stream_identifier: Some(identifier(stream)),
            expected_stream_revision: Some(expected),
        });
        let events = events.into_iter().map(append_req::Content::ProposedMessage);
        let contents = std::iter::once(options).chain(events);
        let requests: Vec<_> = contents
            .map(|content| AppendReq {
                content: Some(content),
            })
            .collect();
        let answer = match self.streams.append(tokio_stream::iter(requests)).await {
            Ok(answer) => answer.into_inner().result,
            Err(status) if is_tombstoned(&status) => return Ok(RemoteOutcome::Tombstoned),
            Err(status) => return Err(refused(&status)),
        };
        match answer.context("the server's answer to an append is empty")? {
            append_resp::Result::Success(success) => match success.position_option {
                Some(PositionOption::Position(_)) => Ok(RemoteOutcome::Done),
                Some(PositionOption::NoPosition(_)) | None => Ok(RemoteOutcome::DeletedSince),
            },
            append_resp::Result::WrongExpectedVersion(wrong) => Ok(RemoteOutcome::Conflict(
                match wrong.current_revision_option {
                    Some(CurrentRevisionOption::CurrentRevision(revision)) => Some(revision),
                    Some(CurrentRevisionOption::CurrentNoStream(_)) | None => None,
                },
            )),
        }
    }

    /// Tombstones a stream that has no events.
    pub(super) async fn tombstone(&mut self, stream: &str) -> Result<RemoteOutcome> {
        let request = TombstoneReq {
            options: Some(tombstone_req::Options {
                stream_identifier: Some(identifier(stream)),
                expected_stream_revision: Some(Untouched::NoStream(Empty {})),
            }),
        };
        match self.streams.tombstone(request).await {
            Ok(_) => Ok(RemoteOutcome::Done),
            Err(status) if is_tombstoned(&status) => Ok(RemoteOutcome::Done),
            Err(status) if exception(&status) == Some("wrong-expected-version") => {
                let actual = status.metadata().get("actual-version");
                let actual = actual.and_then(|actual| actual.to_str().ok());
                Ok(RemoteOutcome::Conflict(
                    actual.and_then(|text| text.parse().ok()),
                ))
            }
            Err(status) => Err(refused(&status)),
        }
    }
}

/// The next event, if there is one.
pub(super) async fn next(answers: &mut Streaming<ReadResp>) -> Result<Option<RemoteEvent>> {
    loop {
        let answer = match answers.message().await {
            Ok(Some(answer)) => answer,
            Ok(None) => return Ok(None),
            Err(status) if is_tombstoned(&status) => return Ok(None),
            Err(status) => return Err(refused(&status)),
        };
        if let Some(Content::Event(event)) = answer.content {
            return recorded(event).map(Some);
        }
    }
}

/// The first event, if there is one. The answers are read to their end, because a connection tolerates only a limited
/// number of calls whose answers are not.
async fn first_of(mut answers: Streaming<ReadResp>) -> Result<Option<RemoteEvent>> {
    let event = next(&mut answers).await?;
    while event.is_some() && next(&mut answers).await?.is_some() {}
    Ok(event)
}

fn recorded(event: ReadEvent) -> Result<RemoteEvent> {
    let event = event.event.or(event.link);
    let mut event = event.context("the server's answer to a read has no event")?;
    let id = event.id.as_ref().and_then(event_id::parse);
    let id = id.context("the server's answer to a read has no event id")?;
    let stream = event.stream_identifier.unwrap_or_default().stream_name;
    let mut header = |name| event.metadata.remove(name).unwrap_or_default();
    Ok(RemoteEvent {
        stream: StreamName::parse(&stream)?,
        revision: event.stream_revision,
        id,
        event_type: header("type"),
        content_type: header("content-type"),
        created: header("created").parse().ok(),
        data: event.data,
        metadata: event.custom_metadata,
        position: event.commit_position,
    })
}

fn all(place: all_options::AllOption) -> StreamOption {
    StreamOption::All(AllOptions {
        all_option: Some(place),
    })
}

fn from_start(stream: &StreamName) -> StreamOption {
    StreamOption::Stream(StreamOptions {
        stream_identifier: Some(identifier(stream.as_str())),
        revision_option: Some(stream_options::RevisionOption::Start(Empty {})),
    })
}

fn identifier(stream: &str) -> StreamIdentifier {
    StreamIdentifier {
        stream_name: stream.to_owned().into(),
    }
}

fn exception(status: &Status) -> Option<&str> {
    status.metadata().get("exception")?.to_str().ok()
}

fn is_tombstoned(status: &Status) -> bool {
    exception(status) == Some("stream-deleted")
}

fn refused(status: &Status) -> anyhow::Error {
    let trailer = |name| {
        status
            .metadata()
            .get(name)
            .and_then(|text| text.to_str().ok())
    };
    let hint = match (status.code(), exception(status)) {
        (_, Some("not-leader")) => format!(
            "; the leader is {}:{}",
            trailer("leader-endpoint-host").unwrap_or("?"),
            trailer("leader-endpoint-port").unwrap_or("?"),
        ),
        (Code::Unauthenticated | Code::PermissionDenied, _) => {
            "; use a user with the right role: esdb://USER:PASSWORD@HOST:PORT".to_owned()
        }
        _ => String::new(),
    };
    anyhow!(
        "the server answered {:?}: {}{hint}",
        status.code(),
        status.message().trim_end_matches('.')
    )
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::body::Body;
    use futures::StreamExt as _;
    use prost::Message as _;
    use tonic::codec::Codec as _;
    use tonic_prost::ProstCodec;

    use super::*;
    use crate::wire::streams::read_resp::read_event::RecordedEvent;

    /// An encoded event with its length prefix.
    fn framed() -> Vec<u8> {
        let name = StreamIdentifier {
            stream_name: "s".into(),
        };
        let event = RecordedEvent {
            id: Some(event_id::write(Uuid::nil(), false)),
            stream_identifier: Some(name),
            ..RecordedEvent::default()
        };
        let event = ReadEvent {
            event: Some(event),
            ..ReadEvent::default()
        };
        let answer = ReadResp {
            content: Some(Content::Event(event)),
        };
        let length = u32::try_from(answer.encoded_len()).unwrap();
        let head = [&[0], &length.to_be_bytes()[..]].concat();
        [head, answer.encode_to_vec()].concat()
    }

    #[tokio::test]
    async fn an_answer_is_read_to_its_end() {
        let read = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&read);
        let messages = futures::stream::iter(0..3).map(move |_| {
            counted.fetch_add(1, Ordering::Relaxed);
            Ok::<_, Infallible>(framed())
        });
        let decoder = ProstCodec::<ReadResp, ReadResp>::default().decoder();
        let body = Body::from_stream(messages);
        let answers = Streaming::new_request(decoder, body, None, None);
        assert!(first_of(answers).await.unwrap().is_some());
        assert_eq!(read.load(Ordering::Relaxed), 3);
    }
}
