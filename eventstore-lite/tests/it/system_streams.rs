//! System streams from outside: how they are switched on, with old, new and live events.

use std::ffi::OsStr;
use std::path::Path;

use eventstore_lite::wire::persistent_subscriptions::create_req::stream_options::RevisionOption;
use eventstore_lite::wire::persistent_subscriptions::create_req::{
    self, Settings, StreamOptions, options, settings,
};
use eventstore_lite::wire::persistent_subscriptions::persistent_subscriptions_client::PersistentSubscriptionsClient;
use eventstore_lite::wire::persistent_subscriptions::read_req::options::{UuidOption, uuid_option};
use eventstore_lite::wire::persistent_subscriptions::{
    CreateReq, ReadReq, read_req, read_resp as group_read,
};
use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::ReadResp;
use eventstore_lite::wire::streams::read_req::options::CountOption;
use eventstore_lite::wire::streams::read_resp::Content;
use eventstore_lite::wire::streams::read_resp::ReadEvent;
use eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent;
use eventstore_lite::{Config, Server};
use rusqlite::Connection;
use tokio::process::Command;
use tokio::task::JoinSet;
use tokio_stream::StreamExt;
use tonic::{Code, Streaming};

use crate::support::process::{EXECUTABLE, Process};
use crate::support::{
    Client, any, append, connect, event, for_ever, from_start, http_1_at, identifier, new_id, open,
    read, read_request, read_stream, soon,
};

/// Variables of the environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

async fn started(db: &Path) -> Server {
    let mut config = Config::new(db);
    config.system_projections = true;
    Server::start(config).await.unwrap()
}

/// The contents of the records of `$ce-cat`, with a server that is started like this.
async fn by_category(db: &Path, arguments: &[&str], variables: Variables<'_>) -> Vec<String> {
    let mut command = Command::new(EXECUTABLE);
    command
        .args(["--insecure", "--node-port", "0", "--db"])
        .arg(db)
        .args(arguments)
        .envs(variables.iter().copied());
    let process = Process::listening(command).await;
    let mut client = connect(&process.address).await;
    let records = soon("up to date", up_to_date(&mut client)).await;
    process.kill().await;
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    records.iter().map(|record| text(&record.data)).collect()
}

/// The records of `$ce-cat`, once it has links to all earlier events.
async fn up_to_date(client: &mut Client) -> Vec<RecordedEvent> {
    loop {
        let request = read_request(from_start("$ce-cat"), CountOption::Count(10));
        match read(client, request).await {
            Err(status) if status.code() == Code::Unavailable => tokio::task::yield_now().await,
            records => return records.unwrap(),
        }
    }
}

#[tokio::test]
async fn system_streams_can_also_be_switched_on_by_the_names_of_the_real_server() {
    let switches: [(&[&str], Variables<'_>); 6] = [
        (&["--system-projections"], &[]),
        (&["--start-standard-projections=true"], &[]),
        (&["--run-projections", "System"], &[]),
        (&[], &[("EVENTSTORE_RUN_PROJECTIONS", "All")]),
        (&[], &[("EVENTSTORE_START_STANDARD_PROJECTIONS", "true")]),
        (
            &["--system-projections"],
            &[("EVENTSTORE_RUN_PROJECTIONS", "None")],
        ),
    ];
    for (arguments, variables) in switches {
        let db = tempfile::tempdir().unwrap();
        let process = Process::start(db.path()).await;
        let mut client = connect(&process.address).await;
        let events = vec![event(&new_id(), "one"), event(&new_id(), "two")];
        append(&mut client, "cat-1", any(), events).await.unwrap();
        process.kill().await;
        let without = by_category(db.path(), &["--run-projections=none"], &[]).await;
        assert!(without.is_empty());
        let with = by_category(db.path(), arguments, variables).await;
        assert_eq!(with, ["0@cat-1", "1@cat-1"], "{arguments:?} {variables:?}");
        assert_eq!(by_category(db.path(), &[], &[]).await, with);
    }
}

async fn next(answers: &mut Streaming<ReadResp>) -> ReadEvent {
    loop {
        let answer = soon("the next event", answers.message()).await.unwrap();
        if let Some(Content::Event(event)) = answer.unwrap().content {
            return event;
        }
    }
}

const WRITERS: usize = 8;
const EACH: usize = 40;

fn write_concurrently(client: &crate::support::Client) -> JoinSet<()> {
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let mut client = client.clone();
        writers.spawn(async move {
            for _ in 0..EACH {
                let (stream, event) = (format!("cat-{writer}"), event(&new_id(), "x"));
                let appended = append(&mut client, &stream, any(), vec![event]);
                appended.await.unwrap();
            }
        });
    }
    writers
}

#[tokio::test]
async fn a_subscriber_of_a_category_gets_every_event_once_in_the_order_of_the_log() {
    let db = tempfile::tempdir().unwrap();
    let server = started(db.path()).await;
    let mut client = connect(server.address()).await;
    let mut options = read_request(from_start("$ce-cat"), for_ever());
    options.resolve_links = true;
    let mut answers = open(&mut client, options).await.unwrap();
    let mut writers = write_concurrently(&client);
    let mut position = 0;
    let mut seen = vec![0; WRITERS];
    for revision in 0..(WRITERS * EACH) as u64 {
        let ReadEvent { event, link, .. } = next(&mut answers).await;
        let (event, link) = (event.unwrap(), link.unwrap());
        assert_eq!(link.stream_revision, revision);
        assert!(event.commit_position > position);
        position = event.commit_position;
        let stream = event.stream_identifier.unwrap().stream_name;
        let writer: usize = std::str::from_utf8(&stream).unwrap()[4..].parse().unwrap();
        assert_eq!(event.stream_revision, seen[writer]);
        seen[writer] += 1;
    }
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    assert_eq!(seen, [EACH as u64; WRITERS]);
    server.shutdown().await;
}

/// A group from the beginning of `$ce-cat`, with resolved links.
fn group() -> CreateReq {
    let stream = StreamOptions {
        stream_identifier: Some(identifier("$ce-cat")),
        revision_option: Some(RevisionOption::Start(Empty {})),
    };
    let settings = Settings {
        resolve_links: true,
        max_retry_count: 10,
        min_checkpoint_count: 10,
        max_checkpoint_count: 1000,
        live_buffer_size: 500,
        read_batch_size: 20,
        history_buffer_size: 500,
        message_timeout: Some(settings::MessageTimeout::MessageTimeoutMs(30_000)),
        checkpoint_after: Some(settings::CheckpointAfter::CheckpointAfterMs(2_000)),
        consumer_strategy: "RoundRobin".to_owned(),
        ..Settings::default()
    };
    CreateReq {
        options: Some(create_req::Options {
            group_name: "group".to_owned(),
            settings: Some(settings),
            stream_option: Some(options::StreamOption::Stream(stream)),
            ..create_req::Options::default()
        }),
    }
}

#[tokio::test]
async fn a_persistent_subscription_to_a_category_gets_old_and_new_events() {
    let db = tempfile::tempdir().unwrap();
    let server = started(db.path()).await;
    let mut client = connect(server.address()).await;
    let address = format!("http://{}", server.address());
    let mut groups = PersistentSubscriptionsClient::connect(address)
        .await
        .unwrap();
    let write = async |client: &mut crate::support::Client, stream: &str| {
        let events = vec![event(&new_id(), "x")];
        append(client, stream, any(), events).await.unwrap();
    };
    write(&mut client, "cat-1").await;
    groups.create(group()).await.unwrap();
    let join = ReadReq {
        content: Some(read_req::Content::Options(read_req::Options {
            group_name: "group".to_owned(),
            buffer_size: 10,
            uuid_option: Some(UuidOption {
                content: Some(uuid_option::Content::String(Empty {})),
            }),
            stream_option: Some(read_req::options::StreamOption::StreamIdentifier(
                identifier("$ce-cat"),
            )),
        })),
    };
    let request = tokio_stream::once(join).chain(tokio_stream::pending());
    let mut answers = groups.read(request).await.unwrap().into_inner();
    for (revision, stream) in [(0, "cat-1"), (1, "cat-2"), (2, "cat-1")] {
        if revision > 0 {
            write(&mut client, stream).await;
        }
        let (event, link) = loop {
            let answer = soon("an event", answers.message()).await.unwrap().unwrap();
            if let Some(group_read::Content::Event(event)) = answer.content {
                break (event.event.unwrap(), event.link.unwrap());
            }
        };
        assert_eq!(link.stream_revision, revision);
        assert_eq!(event.stream_identifier, Some(identifier(stream)));
    }
    server.shutdown().await;
}

/// A lock on the database that keeps others from writing.
fn locked(db: &Path) -> Connection {
    let lock = Connection::open(db.join("events.db")).unwrap();
    lock.execute_batch("BEGIN IMMEDIATE").unwrap();
    lock
}

#[tokio::test]
async fn a_server_answers_while_it_links_earlier_events() {
    let db = tempfile::tempdir().unwrap();
    let process = Process::start(db.path()).await;
    let mut client = connect(&process.address).await;
    let events = vec![event(&new_id(), "one"), event(&new_id(), "two")];
    append(&mut client, "cat-1", any(), events).await.unwrap();
    process.kill().await;

    let lock = locked(db.path());
    let links = OsStr::new("--system-projections");
    let process = Process::start_under(Command::new(EXECUTABLE), db.path(), &[links]).await;
    let health = http_1_at(&process.address, LIVE, b"").await;
    assert!(health.starts_with("HTTP/1.1 200 "), "{health}");
    assert!(health.contains("0 of 2"), "{health}");
    let mut client = connect(&process.address).await;
    assert_eq!(read_stream(&mut client, "cat-1").await.len(), 2);
    for count in [CountOption::Count(10), for_ever()] {
        let request = read_request(from_start("$ce-cat"), count);
        let status = soon("the refusal", read(&mut client, request)).await;
        let status = status.unwrap_err();
        assert_eq!(status.code(), Code::Unavailable);
        assert!(status.message().contains("0 of 2"), "{status:?}");
    }
    drop(lock);
    soon("the links", async {
        while !http_1_at(&process.address, LIVE, b"")
            .await
            .starts_with("HTTP/1.1 204 ")
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    let three = vec![event(&new_id(), "three")];
    append(&mut client, "cat-1", any(), three).await.unwrap();
    let links = read_stream(&mut client, "$ce-cat").await;
    let links: Vec<_> = links.iter().map(|link| &link.data[..]).collect();
    assert_eq!(links, [b"0@cat-1", b"1@cat-1", b"2@cat-1"]);
    process.kill().await;
}

const LIVE: &str = "GET /health/live HTTP/1.1\r\nHost: x";
