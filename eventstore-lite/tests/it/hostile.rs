//! Senseless and malicious requests: each is refused, and the server keeps working.

use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::append_req::options::ExpectedStreamRevision;
use eventstore_lite::wire::streams::batch_append_req::{self, options::ExpectedStreamPosition};
use eventstore_lite::wire::streams::read_req::options::filter_options::{
    Expression, Filter, Window,
};
use eventstore_lite::wire::streams::read_req::options::stream_options::RevisionOption;
use eventstore_lite::wire::streams::read_req::options::{
    AllOptions, CountOption, FilterOption, FilterOptions, Position, ReadDirection, StreamOption,
    StreamOptions, all_options,
};
use eventstore_lite::wire::streams::{
    BatchAppendReq, DeleteReq, ReadReq, TombstoneReq, delete_req, tombstone_req,
};
use eventstore_lite::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;
use tonic::{Code, Status};

use crate::support::{
    Client, all_from_start, any, append, connect, event, from_start, http_1, id, identifier,
    new_id, proposed, read, read_request, read_stream, soon, start, target,
};

const COUNT: CountOption = CountOption::Count(10);

fn refused<T: std::fmt::Debug>(result: Result<T, Status>) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    assert!(!status.message().is_empty());
}

async fn still_works(client: &mut Client) {
    let name = new_id();
    append(client, &name, any(), vec![event(&new_id(), "fine")])
        .await
        .unwrap();
    assert_eq!(read_stream(client, &name).await.len(), 1);
}

#[tokio::test]
async fn names_that_cannot_be_written_to_are_refused() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let names: [Vec<u8>; 5] = [
        vec![],
        b"$all".to_vec(),
        b"$$".to_vec(),
        vec![0xff, 0xfe],
        vec![b'x'; 100_000],
    ];
    for name in names {
        let pieces = vec![target(name.clone(), any()), proposed(event(&new_id(), "x"))];
        refused(client.append(tokio_stream::iter(pieces)).await);
        let options = delete_req::Options {
            stream_identifier: Some(identifier(name.clone())),
            expected_stream_revision: Some(delete_req::options::ExpectedStreamRevision::Any(
                Empty {},
            )),
        };
        refused(
            client
                .delete(DeleteReq {
                    options: Some(options),
                })
                .await,
        );
        let options = tombstone_req::Options {
            stream_identifier: Some(identifier(name)),
            expected_stream_revision: Some(tombstone_req::options::ExpectedStreamRevision::Any(
                Empty {},
            )),
        };
        refused(
            client
                .tombstone(TombstoneReq {
                    options: Some(options),
                })
                .await,
        );
    }
    still_works(&mut client).await;
}

#[tokio::test]
async fn events_without_a_proper_id_or_type_are_refused() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut without_id = event(&new_id(), "x");
    without_id.id = None;
    let bad_id = event("not a uuid", "x");
    let mut long_type = event(&new_id(), "x");
    long_type
        .metadata
        .insert("type".to_owned(), "x".repeat(1_000_000));
    let mut empty_type = event(&new_id(), "x");
    empty_type.metadata.insert("type".to_owned(), String::new());
    for bad in [without_id, bad_id, long_type, empty_type] {
        refused(append(&mut client, "s", any(), vec![bad]).await);
    }
    assert!(read_stream(&mut client, "s").await.is_empty());
}

#[tokio::test]
async fn extreme_numbers_do_no_harm() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    append(&mut client, "s", any(), vec![event(&new_id(), "x")])
        .await
        .unwrap();
    for revision in [
        1,
        u64::MAX,
        u64::MAX - 1,
        i64::MAX as u64,
        i64::MAX as u64 + 1,
    ] {
        let wrong = append(
            &mut client,
            "s",
            ExpectedStreamRevision::Revision(revision),
            vec![event(&new_id(), "y")],
        );
        assert_eq!(wrong.await.unwrap_err().code(), Code::Aborted);
    }
    refused(
        read(
            &mut client,
            read_request(all_from_start(), CountOption::Count(0)),
        )
        .await,
    );
    refused(
        read(
            &mut client,
            read_request(from_start("s"), CountOption::Count(0)),
        )
        .await,
    );
    for position in [u64::MAX, i64::MAX as u64, 1 << 40] {
        let at = Position {
            commit_position: position,
            prepare_position: position,
        };
        let all = AllOptions {
            all_option: Some(all_options::AllOption::Position(at)),
        };
        let mut request = read_request(StreamOption::All(all), CountOption::Count(u64::MAX));
        assert!(read(&mut client, request.clone()).await.unwrap().is_empty());
        request.read_direction = ReadDirection::Backwards.into();
        assert_eq!(read(&mut client, request).await.unwrap().len(), 1);
    }
    let inside = Position {
        commit_position: 1,
        prepare_position: 1,
    };
    let all = AllOptions {
        all_option: Some(all_options::AllOption::Position(inside)),
    };
    refused(read(&mut client, read_request(StreamOption::All(all), COUNT)).await);
}

#[tokio::test]
async fn hostile_filters_are_refused_or_bounded() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut long_type = event(&new_id(), "x");
    long_type
        .metadata
        .insert("type".to_owned(), "a".repeat(4_000));
    append(&mut client, "s", any(), vec![long_type])
        .await
        .unwrap();
    let nested = "(".repeat(2_000) + &")".repeat(2_000);
    let bombs = [
        "(",
        "((((a{100}){100}){100}){100})",
        r"^(a|a)*(?=b)(a|b|ab)*c$",
        &nested,
        &"x".repeat(10_000),
    ];
    for regex in bombs {
        let mut request = read_request(all_from_start(), COUNT);
        request.filter_option = Some(FilterOption::Filter(FilterOptions {
            filter: Some(Filter::EventType(Expression {
                regex: regex.to_owned(),
                prefix: vec![],
            })),
            window: Some(Window::Max(32)),
            checkpoint_interval_multiplier: 1,
        }));
        refused(soon("an answer", read(&mut client, request)).await);
    }
    still_works(&mut client).await;
}

#[tokio::test]
async fn requests_with_missing_parts_are_refused() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut answers = vec![client.read(ReadReq { options: None }).await.map(drop)];
    let complete = read_request(from_start("s"), COUNT);
    let strip: [fn(&mut _); 5] = [
        |options: &mut eventstore_lite::wire::streams::read_req::Options| {
            options.stream_option = None;
        },
        |options| {
            options.count_option = None;
        },
        |options| {
            options.filter_option = None;
        },
        |options| {
            options.uuid_option = None;
        },
        |options| {
            options.read_direction = 7;
        },
    ];
    for strip in strip {
        let mut options = complete.clone();
        strip(&mut options);
        answers.push(read(&mut client, options).await.map(drop));
    }
    answers.push(client.delete(DeleteReq { options: None }).await.map(drop));
    answers.push(
        client
            .tombstone(TombstoneReq { options: None })
            .await
            .map(drop),
    );
    answers.into_iter().for_each(refused);
    let nameless = BatchAppendReq {
        correlation_id: None,
        options: None,
        proposed_messages: vec![],
        is_final: true,
    };
    let mut session = client
        .batch_append(tokio_stream::once(nameless))
        .await
        .unwrap()
        .into_inner();
    refused(session.message().await);
}

#[tokio::test]
async fn a_session_with_too_many_unfinished_appends_is_ended() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let pieces = std::iter::repeat_with(|| BatchAppendReq {
        correlation_id: Some(id(&new_id())),
        options: None,
        proposed_messages: vec![],
        is_final: false,
    });
    let session = client.batch_append(tokio_stream::iter(pieces)).await;
    let status = soon("the end", session.unwrap().into_inner().message())
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted);
    still_works(&mut client).await;
}

#[tokio::test]
async fn a_session_whose_answers_are_not_read_delays_only_itself() {
    let db = tempfile::tempdir().unwrap();
    let mut config = Config::new(db.path());
    // One append fills the queue.
    config.limits.queued_bytes = 4 * 1024;
    config.unsafe_disable_flush_to_disk = true;
    let server = Server::start(config).await.unwrap();
    let idle = Endpoint::from_shared(format!("http://{}", server.address())).unwrap();
    let idle = idle.initial_stream_window_size(1_024);
    let mut idle = Client::new(idle.connect().await.unwrap());
    let appends = std::iter::repeat_with(|| large_append("idle"));
    let session = idle.batch_append(tokio_stream::iter(appends));
    let _unread = session.await.unwrap().into_inner();

    let mut client = connect(server.address()).await;
    let (mut last, mut unchanged) = (0, 0);
    while unchanged < 100 {
        let busy = vec![event(&new_id(), "x")];
        let appended = append(&mut client, "busy", any(), busy);
        soon("an append", appended).await.unwrap();
        let now = last_revision(&mut client, "idle").await;
        unchanged = if now == last { unchanged + 1 } else { 0 };
        last = now;
    }
}

/// Pieces of 100 kB of appends whose last piece never arrives.
fn unfinished() -> impl Iterator<Item = BatchAppendReq> {
    std::iter::repeat_with(|| {
        let mut piece = large_append("s");
        piece.proposed_messages[0].custom_metadata = vec![b'x'; 100_000].into();
        piece.is_final = false;
        piece
    })
}

#[tokio::test]
async fn the_unfinished_appends_of_all_sessions_are_bounded() {
    const PIECES: usize = 4;
    let db = tempfile::tempdir().unwrap();
    let mut config = Config::new(db.path());
    config.limits.queued_bytes = 1024 * 1024;
    let server = Server::start(config).await.unwrap();
    let mut client = connect(server.address()).await;
    let mut session = async |pieces: usize| {
        let (sender, receiver) = tokio::sync::mpsc::channel(16);
        let answers = client.batch_append(ReceiverStream::new(receiver)).await;
        let mut answers = answers.unwrap().into_inner();
        for piece in unfinished().take(pieces) {
            drop(sender.send(piece).await);
        }
        // A complete append is written anyway, and answered when the pieces before it are taken.
        drop(sender.send(large_append("s")).await);
        let answer = soon("an answer", answers.message()).await;
        (sender, answer.map(|answer| (answers, answer.unwrap())))
    };
    let first = session(PIECES).await;
    let second = session(PIECES).await;
    assert!(first.1.is_ok() && second.1.is_ok());
    let refused = session(PIECES).await.1.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(session(0).await.1.is_ok(), "complete appends still work");
    drop(first);
    soon("room", async {
        while session(PIECES).await.1.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

fn large_append(stream: &str) -> BatchAppendReq {
    let event = event(&new_id(), vec![b'x'; 8 * 1024]);
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

async fn last_revision(client: &mut Client, stream: &str) -> u64 {
    let mut request = read_request(from_start(stream), CountOption::Count(1));
    request.stream_option = Some(StreamOption::Stream(StreamOptions {
        stream_identifier: Some(identifier(stream)),
        revision_option: Some(RevisionOption::End(Empty {})),
    }));
    request.read_direction = ReadDirection::Backwards.into();
    let last = read(client, request).await.unwrap();
    last.first().map_or(0, |last| last.stream_revision)
}

#[tokio::test]
async fn garbage_on_the_port_does_no_harm() {
    let (_db, server) = start().await;
    for garbage in [
        &b"\0\0\0\0"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\ngarbage",
        b"GET / HTTP/9.9\r\n\r\n",
    ] {
        let mut socket = tokio::net::TcpStream::connect(server.address())
            .await
            .unwrap();
        socket.write_all(garbage).await.unwrap();
        socket.shutdown().await.unwrap();
        // Whatever was sent, the connection ends.
        drop(soon("the end", socket.read_to_end(&mut Vec::new())).await);
    }
    still_works(&mut connect(server.address()).await).await;
}

#[tokio::test]
async fn a_foreign_web_page_can_do_nothing() {
    let (_db, server) = start().await;
    let own = format!("Host: {}", server.address());
    let empty_message = [0; 5];
    for content_type in ["text/plain", "application/grpc"] {
        let shutdown = format!(
            "POST /event_store.client.operations.Operations/Shutdown HTTP/1.1\r\n{own}\r\nContent-Type: {content_type}"
        );
        let answer = http_1(&server, &shutdown, &empty_message).await;
        assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    }
    let listing = "GET /web/api/streams HTTP/1.1\r\n";
    let elsewhere = http_1(&server, &format!("{listing}Host: elsewhere.example"), b"").await;
    assert!(elsewhere.starts_with("HTTP/1.1 421 "), "{elsewhere}");
    let here = http_1(&server, &format!("{listing}{own}"), b"").await;
    assert!(here.starts_with("HTTP/1.1 200 "), "{here}");
    still_works(&mut connect(server.address()).await).await;
}

#[tokio::test]
async fn health_is_answered_over_http_1() {
    let (_db, server) = start().await;
    let answer = http_1(&server, "GET /health/live HTTP/1.1\r\nHost: x", b"").await;
    assert!(answer.starts_with("HTTP/1.1 204 "), "{answer}");
}
