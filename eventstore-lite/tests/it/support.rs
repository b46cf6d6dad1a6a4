//! A server for each test, and a plain gRPC client.

pub(crate) mod dynamic;
pub(crate) mod groups;
pub(crate) mod process;
pub(crate) mod tls;

use std::time::Duration;

use eventstore_lite::wire::shared::{Empty, StreamIdentifier, Uuid, uuid};
use eventstore_lite::wire::streams::append_req::options::ExpectedStreamRevision;
use eventstore_lite::wire::streams::append_req::{
    Content as Piece, Options as Target, ProposedMessage,
};
use eventstore_lite::wire::streams::append_resp::success::{CurrentRevisionOption, PositionOption};
use eventstore_lite::wire::streams::append_resp::{Result as Outcome, Success};
use eventstore_lite::wire::streams::read_req::Options;
use eventstore_lite::wire::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, ReadDirection, StreamOption, StreamOptions,
    SubscriptionOptions, UuidOption, all_options, stream_options, uuid_option,
};
use eventstore_lite::wire::streams::read_resp::Content;
use eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent;
use eventstore_lite::wire::streams::streams_client::StreamsClient;
use eventstore_lite::wire::streams::{AppendReq, DeleteReq, ReadReq, ReadResp, delete_req};
use eventstore_lite::{Config, Server};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, ToSocketAddrs};
use tonic::transport::Channel;
use tonic::{Status, Streaming};

/// How long a test waits before it gives up.
pub(crate) const DEADLINE: Duration = Duration::from_mins(1);

pub(crate) type Client = StreamsClient<Channel>;

pub(crate) async fn start() -> (TempDir, Server) {
    let db = tempfile::tempdir().unwrap();
    let server = Server::start(Config::new(db.path())).await.unwrap();
    (db, server)
}

pub(crate) async fn connect(address: impl std::fmt::Display) -> Client {
    let client = StreamsClient::connect(format!("http://{address}"))
        .await
        .unwrap();
    client.max_decoding_message_size(17 * 1024 * 1024)
}

/// Waits with a deadline.
pub(crate) async fn soon<T>(what: &str, wait: impl Future<Output = T>) -> T {
    let waited = tokio::time::timeout(DEADLINE, wait).await;
    waited.unwrap_or_else(|_| panic!("{what}: not within {DEADLINE:?}"))
}

pub(crate) fn id(text: &str) -> Uuid {
    Uuid {
        value: Some(uuid::Value::String(text.to_owned())),
    }
}

pub(crate) fn new_id() -> String {
    ::uuid::Uuid::new_v4().to_string()
}

pub(crate) fn event(event_id: &str, data: impl Into<Vec<u8>>) -> ProposedMessage {
    let metadata = [
        ("type", "happened"),
        ("content-type", "application/octet-stream"),
    ];
    ProposedMessage {
        id: Some(id(event_id)),
        metadata: metadata
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
        custom_metadata: vec![].into(),
        data: data.into().into(),
    }
}

pub(crate) fn any() -> ExpectedStreamRevision {
    ExpectedStreamRevision::Any(Empty {})
}

pub(crate) fn target(stream: impl Into<Vec<u8>>, expected: ExpectedStreamRevision) -> AppendReq {
    let options = Target {
        stream_identifier: Some(identifier(stream)),
        expected_stream_revision: Some(expected),
    };
    AppendReq {
        content: Some(Piece::Options(options)),
    }
}

pub(crate) fn proposed(event: ProposedMessage) -> AppendReq {
    AppendReq {
        content: Some(Piece::ProposedMessage(event)),
    }
}

pub(crate) fn identifier(stream: impl Into<Vec<u8>>) -> StreamIdentifier {
    StreamIdentifier {
        stream_name: stream.into().into(),
    }
}

/// The place of an append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Appended {
    pub(crate) revision: Option<u64>,
    pub(crate) position: u64,
}

/// The answer to an HTTP/1.1 request with these lines and this body.
pub(crate) async fn http_1(server: &Server, lines: &str, body: &[u8]) -> String {
    http_1_at(server.address(), lines, body).await
}

/// Like [`http_1`], for the server at this address.
pub(crate) async fn http_1_at(address: impl ToSocketAddrs, lines: &str, body: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    let length = body.len();
    let head = format!("{lines}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n");
    socket.write_all(head.as_bytes()).await.unwrap();
    socket.write_all(body).await.unwrap();
    let mut answer = Vec::new();
    soon("the answer", socket.read_to_end(&mut answer))
        .await
        .unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

pub(crate) async fn append(
    client: &mut Client,
    stream: &str,
    expected: ExpectedStreamRevision,
    events: Vec<ProposedMessage>,
) -> Result<Appended, Status> {
    let pieces = std::iter::once(target(stream, expected)).chain(events.into_iter().map(proposed));
    let pieces: Vec<_> = pieces.collect();
    let answer = client
        .append(tokio_stream::iter(pieces))
        .await?
        .into_inner();
    match answer.result.unwrap() {
        Outcome::Success(success) => Ok(appended(success)),
        Outcome::WrongExpectedVersion(wrong) => Err(Status::aborted(format!("{wrong:?}"))),
    }
}

fn appended(success: Success) -> Appended {
    let PositionOption::Position(position) = success.position_option.unwrap() else {
        panic!("an append without a position");
    };
    let revision = match success.current_revision_option.unwrap() {
        CurrentRevisionOption::CurrentRevision(revision) => Some(revision),
        CurrentRevisionOption::NoStream(_) => None,
    };
    Appended {
        revision,
        position: position.commit_position,
    }
}

/// Soft-deletes a stream.
pub(crate) async fn delete_stream(client: &mut Client, stream: &str) {
    let options = Some(delete_req::Options {
        stream_identifier: Some(identifier(stream)),
        expected_stream_revision: Some(delete_req::options::ExpectedStreamRevision::Any(Empty {})),
    });
    client.delete(DeleteReq { options }).await.unwrap();
}

pub(crate) fn read_request(stream: StreamOption, count: CountOption) -> Options {
    Options {
        read_direction: ReadDirection::Forwards.into(),
        resolve_links: false,
        uuid_option: Some(UuidOption {
            content: Some(uuid_option::Content::String(Empty {})),
        }),
        control_option: None,
        stream_option: Some(stream),
        count_option: Some(count),
        filter_option: Some(FilterOption::NoFilter(Empty {})),
    }
}

pub(crate) fn from_start(stream: &str) -> StreamOption {
    StreamOption::Stream(StreamOptions {
        stream_identifier: Some(identifier(stream)),
        revision_option: Some(stream_options::RevisionOption::Start(Empty {})),
    })
}

pub(crate) fn all_from_start() -> StreamOption {
    StreamOption::All(AllOptions {
        all_option: Some(all_options::AllOption::Start(Empty {})),
    })
}

pub(crate) fn for_ever() -> CountOption {
    CountOption::Subscription(SubscriptionOptions {})
}

pub(crate) async fn open(
    client: &mut Client,
    options: Options,
) -> Result<Streaming<ReadResp>, Status> {
    let answers = client
        .read(ReadReq {
            options: Some(options),
        })
        .await?;
    Ok(answers.into_inner())
}

/// All answers of a read with a count.
pub(crate) async fn read(
    client: &mut Client,
    options: Options,
) -> Result<Vec<RecordedEvent>, Status> {
    let mut answers = open(client, options).await?;
    let mut events = Vec::new();
    while let Some(answer) = answers.message().await? {
        if let Some(Content::Event(event)) = answer.content {
            events.push(event.event.unwrap());
        }
    }
    Ok(events)
}

pub(crate) async fn read_stream(client: &mut Client, stream: &str) -> Vec<RecordedEvent> {
    let request = read_request(from_start(stream), CountOption::Count(u64::MAX));
    read(client, request).await.unwrap()
}

pub(crate) async fn read_all(client: &mut Client) -> Vec<RecordedEvent> {
    let request = read_request(all_from_start(), CountOption::Count(u64::MAX));
    read(client, request).await.unwrap()
}

/// The id of an event, as text.
pub(crate) fn id_of(event: &RecordedEvent) -> String {
    match event.id.clone().unwrap().value.unwrap() {
        uuid::Value::String(text) => text,
        uuid::Value::Structured(_) => panic!("the id must be a string"),
    }
}

/// The next event of a subscription.
pub(crate) async fn next_event(answers: &mut Streaming<ReadResp>) -> RecordedEvent {
    loop {
        let answer = soon("the next event", answers.message()).await.unwrap();
        if let Some(Content::Event(event)) = answer.unwrap().content {
            return event.event.unwrap();
        }
    }
}
