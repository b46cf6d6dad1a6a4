//! Calls at their limits: of duration, of size, and of number.

use std::net::SocketAddr;

use bytes::{BufMut, Bytes, BytesMut};
use eventstore_lite::Server;
use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::batch_append_req::{self, options::ExpectedStreamPosition};
use eventstore_lite::wire::streams::{
    AppendReq, BatchAppendReq, DeleteReq, ReadReq, ReadResp, TombstoneReq, delete_req,
    tombstone_req,
};
use h2::client::{ResponseFuture, SendRequest};
use h2::{RecvStream, SendStream};
use prost::Message;
use rusqlite::Connection;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tonic::codegen::http;
use tonic::{Code, Status, Streaming};

use crate::support::{
    Client, all_from_start, any, append, connect, event, for_ever, from_start, http_1, id,
    identifier, new_id, open, proposed, read_request, read_stream, soon, start, target,
};

const STREAMS: &str = "event_store.client.streams.Streams";
/// A short deadline. Its length does not matter to the tests.
const SOON_OVER: &str = "50m";
/// The maximum number of subscriptions and sessions of one connection.
const MOST_LASTING: usize = 512;

/// A client that does not end calls by itself. Clients of tonic do so when a deadline has passed.
struct Patient(SendRequest<Bytes>);

/// A call in progress.
struct Begun {
    response: ResponseFuture,
    request: SendStream<Bytes>,
}

impl Patient {
    async fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self(client)
    }

    /// Begins a call with a short deadline.
    fn begin(&mut self, method: &str, messages: &[Bytes], is_all: bool) -> Begun {
        let request = http::Request::post(format!("http://localhost/{STREAMS}/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", SOON_OVER);
        let request = request.body(()).unwrap();
        let (response, mut request) = self.0.send_request(request, false).unwrap();
        request.send_data(messages.concat().into(), is_all).unwrap();
        Begun { response, request }
    }
}

impl Begun {
    /// The status code with which the call ends.
    async fn status(self) -> String {
        let ended = async {
            let answer = self.response.await.unwrap();
            if let Some(status) = answer.headers().get("grpc-status") {
                return status.to_str().unwrap().to_owned();
            }
            in_trailers(answer.into_body()).await
        };
        let status = soon("the end of the call", ended).await;
        drop(self.request);
        status
    }
}

async fn in_trailers(mut body: RecvStream) -> String {
    while let Some(data) = body.data().await {
        let length = data.unwrap().len();
        body.flow_control().release_capacity(length).unwrap();
    }
    let trailers = body.trailers().await.unwrap().unwrap();
    trailers["grpc-status"].to_str().unwrap().to_owned()
}

fn framed(message: &impl Message) -> Bytes {
    let mut frame = BytesMut::new();
    frame.put_u8(0);
    frame.put_u32(u32::try_from(message.encoded_len()).unwrap());
    message.encode(&mut frame).unwrap();
    frame.freeze()
}

fn late(stream: &str) -> [AppendReq; 2] {
    [
        target(stream, any()),
        proposed(event(&new_id(), "too late")),
    ]
}

fn delete(stream: impl Into<Vec<u8>>) -> DeleteReq {
    let options = delete_req::Options {
        stream_identifier: Some(identifier(stream)),
        expected_stream_revision: Some(delete_req::options::ExpectedStreamRevision::Any(Empty {})),
    };
    DeleteReq {
        options: Some(options),
    }
}

fn tombstone(stream: &str) -> TombstoneReq {
    let expected = tombstone_req::options::ExpectedStreamRevision::Any(Empty {});
    let options = tombstone_req::Options {
        stream_identifier: Some(identifier(stream)),
        expected_stream_revision: Some(expected),
    };
    TombstoneReq {
        options: Some(options),
    }
}

fn in_session(stream: impl Into<Vec<u8>>) -> BatchAppendReq {
    let event = event(&new_id(), "too late");
    BatchAppendReq {
        correlation_id: Some(id(&new_id())),
        options: Some(batch_append_req::Options {
            stream_identifier: Some(identifier(stream)),
            deadline_option: None,
            expected_stream_position: Some(ExpectedStreamPosition::Any(())),
        }),
        proposed_messages: vec![batch_append_req::ProposedMessage {
            id: event.id,
            metadata: event.metadata,
            custom_metadata: event.custom_metadata,
            data: event.data,
        }],
        is_final: true,
    }
}

fn follow(stream: &str) -> ReadReq {
    ReadReq {
        options: Some(read_request(from_start(stream), for_ever())),
    }
}

fn is_deadline_exceeded(status: &str) {
    assert_eq!(status, (Code::DeadlineExceeded as i32).to_string());
}

#[tokio::test]
async fn a_call_past_its_deadline_ends_with_deadline_exceeded() {
    let (_db, server) = start().await;
    let mut client = Patient::connect(server.address()).await;
    let [options, _] = late("s");
    let all = ReadReq {
        options: Some(read_request(all_from_start(), for_ever())),
    };
    let begun = [
        client.begin("Append", &[framed(&options)], false),
        client.begin("Delete", &[], false),
        client.begin("BatchAppend", &[framed(&in_session("s"))], false),
        client.begin("Read", &[framed(&follow("s"))], true),
        client.begin("Read", &[framed(&all)], true),
    ];
    for call in begun {
        is_deadline_exceeded(&call.status().await);
    }
}

/// Blocks writes of the server until the connection is dropped.
fn hold(db: &TempDir) -> Connection {
    let connection = Connection::open(db.path().join("events.db")).unwrap();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    connection
}

#[tokio::test]
async fn a_write_that_does_not_start_before_its_deadline_is_not_made() {
    let (db, server) = start().await;
    let mut others = connect(server.address()).await;
    let first = vec![event(&new_id(), "first")];
    append(&mut others, "s", any(), first).await.unwrap();
    let mut client = Patient::connect(server.address()).await;

    let held = hold(&db);
    let appended = late("s").map(|message| framed(&message));
    let calls = [
        client.begin("Append", &appended, true),
        client.begin("BatchAppend", &[framed(&in_session("s"))], false),
        client.begin("Delete", &[framed(&delete("s"))], true),
        client.begin("Tombstone", &[framed(&tombstone("s"))], true),
    ];
    for call in calls {
        is_deadline_exceeded(&call.status().await);
    }
    drop(held);

    let marker = vec![event(&new_id(), "marker")];
    append(&mut others, "s", any(), marker).await.unwrap();
    let events = read_stream(&mut others, "s").await;
    let data: Vec<_> = events.iter().map(|event| &event.data[..]).collect();
    assert_eq!(data, [&b"first"[..], b"marker"]);
}

#[tokio::test]
async fn a_message_that_is_too_large_is_answered_resource_exhausted() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let name = vec![b'x'; 17_000_000];
    let session = tokio_stream::once(in_session(name.clone()));
    let refused = [
        client.delete(delete(name)).await.map(drop),
        client
            .batch_append(session)
            .await
            .unwrap()
            .into_inner()
            .message()
            .await
            .map(drop),
    ];
    for refused in refused {
        assert_eq!(refused.unwrap_err().code(), Code::ResourceExhausted);
    }
}

#[tokio::test]
async fn an_append_with_too_much_metadata_is_answered_resource_exhausted() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut much = event(&new_id(), "x");
    much.custom_metadata = vec![b'x'; 15 * 1024 * 1024].into();
    let refused = append(&mut client, "s", any(), vec![much.clone(), much]).await;
    let refused = refused.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.message().contains("16777216"), "{refused}");
    assert!(read_stream(&mut client, "s").await.is_empty());
}

async fn subscribe(client: &mut Client) -> Result<Streaming<ReadResp>, Status> {
    let opened = open(client, read_request(from_start("quiet"), for_ever()));
    soon("the subscription", opened).await
}

/// Waits until a figure has the expected value.
async fn shows(server: &Server, line: &str) {
    let shown = async {
        let request = "GET /metrics HTTP/1.1\r\nHost: localhost";
        while !http_1(server, request, b"")
            .await
            .contains(&format!("\n{line}\n"))
        {}
    };
    soon(line, shown).await;
}

#[tokio::test]
async fn an_append_does_not_wait_behind_idle_subscriptions() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut subscriptions = Vec::new();
    for _ in 0..MOST_LASTING {
        subscriptions.push(subscribe(&mut client).await.unwrap());
    }
    let written = append(&mut client, "s", any(), vec![event(&new_id(), "x")]);
    soon("the append", written).await.unwrap();
    assert_eq!(read_stream(&mut client, "s").await.len(), 1);

    let refused = subscribe(&mut client).await.map(drop).unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(
        refused.message().contains("another connection"),
        "{refused}"
    );
    let session = client.batch_append(tokio_stream::pending()).await;
    assert_eq!(
        session.map(drop).unwrap_err().code(),
        Code::ResourceExhausted
    );
    shows(&server, "eventstore_refused_subscriptions 2").await;
    // These calls and the request for the figures.
    shows(&server, "eventstore_current_incoming_grpc_calls 513").await;

    // Another connection has room, and so has this one after one of its subscriptions has ended.
    let mut other = connect(server.address()).await;
    subscribe(&mut other).await.unwrap();
    subscriptions.pop();
    soon("room", async {
        while subscribe(&mut client).await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}
