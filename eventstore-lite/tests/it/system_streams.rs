//! System streams from outside: how they are switched on, for old events and new ones, and live.

use std::path::Path;

use eventstore_lite::wire::streams::ReadResp;
use eventstore_lite::wire::streams::read_resp::Content;
use eventstore_lite::wire::streams::read_resp::ReadEvent;
use eventstore_lite::{Config, Server};
use tokio::process::Command;
use tokio::task::JoinSet;
use tonic::Streaming;

use crate::support::process::{EXECUTABLE, Process};
use crate::support::{
    any, append, connect, event, for_ever, from_start, new_id, open, read_request, read_stream,
    soon,
};

/// Of the environment.
type Variables<'a> = &'a [(&'a str, &'a str)];

async fn started(db: &Path) -> Server {
    let mut config = Config::new(db);
    config.system_projections = true;
    Server::start(config).await.unwrap()
}

/// What the records of `$ce-cat` say, with the server started like this.
async fn by_category(db: &Path, arguments: &[&str], variables: Variables<'_>) -> Vec<String> {
    let mut command = Command::new(EXECUTABLE);
    command
        .args(["--insecure", "--node-port", "0", "--db"])
        .arg(db)
        .args(arguments)
        .envs(variables.iter().copied());
    let process = Process::listening(command).await;
    let mut client = connect(&process.address).await;
    let records = read_stream(&mut client, "$ce-cat").await;
    process.kill().await;
    let text = |data: &[u8]| String::from_utf8(data.to_vec()).unwrap();
    records.iter().map(|record| text(&record.data)).collect()
}

#[tokio::test]
async fn system_streams_are_switched_on_by_the_names_of_the_real_server_too() {
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
