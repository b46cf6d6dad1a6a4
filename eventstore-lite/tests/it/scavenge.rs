//! The service `Operations`: a scavenge erases events even if it is interrupted, and changes nothing else.

use std::path::Path;

use eventstore::operations::{Client as Operator, OperationalOptions, ScavengeStatus};
use eventstore_lite::wire::operations::operations_client::OperationsClient;
use eventstore_lite::wire::operations::{StartScavengeReq, StopScavengeReq, stop_scavenge_req};
use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::append_req::ProposedMessage;
use eventstore_lite::wire::streams::append_req::options::ExpectedStreamRevision;
use eventstore_lite::wire::streams::delete_req;
use eventstore_lite::wire::streams::read_req::options::{
    AllOptions, CountOption, Position, StreamOption, all_options,
};
use eventstore_lite::wire::streams::tombstone_req;
use eventstore_lite::wire::streams::{DeleteReq, TombstoneReq};
use rusqlite::{Connection, OpenFlags};
use tonic::Code;

use crate::support::process::Process;
use crate::support::{
    Client, any, append, connect, event, for_ever, identifier, new_id, next_event, open, read,
    read_all, read_request, read_stream, soon, start,
};

const STREAMS: usize = 20;
/// The mark in the ids of all removed events, as bytes.
const GONE_ID: &[u8; 8] = b"gone-ids";
/// The mark in all other parts of the removed events, and the mark of the remaining events.
const GONE: &str = "canary-of-what-goes";
const KEPT: &str = "canary-of-what-stays";

fn operator(address: impl std::fmt::Display) -> Operator {
    let url = format!("esdb://{address}?tls=false&discoveryInterval=1");
    eventstore::Client::new(url.parse().unwrap())
        .unwrap()
        .into()
}

async fn start_scavenge(operator: &Operator) -> (String, ScavengeStatus) {
    let options = OperationalOptions::default();
    let started = operator.start_scavenge(1, 0, &options).await.unwrap();
    (started.id().to_owned(), started.status())
}

/// Runs a scavenge. It has ended when another one can start.
async fn scavenge(operator: &Operator) {
    let (first, _) = start_scavenge(operator).await;
    soon("the end of the scavenge", async {
        while start_scavenge(operator).await.0 == first {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

async fn tombstone(client: &mut Client, stream: &str) {
    let options = tombstone_req::Options {
        stream_identifier: Some(identifier(stream)),
        expected_stream_revision: Some(tombstone_req::options::ExpectedStreamRevision::Any(
            Empty {},
        )),
    };
    let options = Some(options);
    client.tombstone(TombstoneReq { options }).await.unwrap();
}

async fn delete(client: &mut Client, stream: &str) {
    let options = delete_req::Options {
        stream_identifier: Some(identifier(stream)),
        expected_stream_revision: Some(delete_req::options::ExpectedStreamRevision::Any(Empty {})),
    };
    let options = Some(options);
    client.delete(DeleteReq { options }).await.unwrap();
}

/// An event with the mark in its data, metadata and type.
fn marked(mark: &str, number: usize) -> ProposedMessage {
    let mut id = uuid::Uuid::new_v4().into_bytes();
    if mark == GONE {
        id[..8].copy_from_slice(GONE_ID);
    }
    let id = uuid::Uuid::from_bytes(id).to_string();
    let mut event = event(&id, mark.repeat([1, 10, 50, 250][number % 4]));
    event.custom_metadata = format!("{{\"m\":\"{mark}\"}}").into();
    event.metadata.insert("type".to_owned(), mark.to_owned());
    event
}

async fn set_metadata(client: &mut Client, stream: &str, json: &str) {
    let mut metadata = event(&new_id(), json);
    let properties = [("type", "$metadata"), ("content-type", "application/json")];
    for (key, value) in properties {
        metadata.metadata.insert(key.to_owned(), value.to_owned());
    }
    let metastream = format!("$${stream}");
    append(client, &metastream, any(), vec![metadata])
        .await
        .unwrap();
}

/// How often these bytes occur in the files of a folder.
fn found(folder: &Path, mark: &[u8]) -> usize {
    let files = std::fs::read_dir(folder).unwrap();
    let contents = files.map(|file| std::fs::read(file.unwrap().path()).unwrap());
    contents
        .map(|content| {
            content
                .windows(mark.len())
                .filter(|bytes| *bytes == mark)
                .count()
        })
        .sum()
}

fn is_gone(folder: &Path) -> bool {
    found(folder, GONE.as_bytes()) == 0 && found(folder, GONE_ID) == 0
}

/// Writes streams with interleaved events. The last event of each has the mark of remaining events.
async fn fill(client: &mut Client, streams: &[&str]) {
    for round in 0..12 {
        for (number, stream) in (0..STREAMS).flat_map(|n| streams.iter().map(move |s| (n, s))) {
            let mark = if round == 11 { KEPT } else { GONE };
            let (stream, event) = (format!("{stream}-{number}"), marked(mark, round + number));
            append(client, &stream, any(), vec![event]).await.unwrap();
        }
    }
}

#[tokio::test]
async fn after_a_scavenge_no_file_has_removed_bytes() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    fill(
        &mut client,
        &["deleted", "counted", "truncated", "aged", "whole"],
    )
    .await;
    for number in 0..STREAMS {
        let events = (0..3).map(|event| marked(GONE, event + number)).collect();
        let stream = format!("tombstoned-{number}");
        append(&mut client, &stream, any(), events).await.unwrap();
        set_metadata(&mut client, &stream, &format!(r#"{{"owner":"{GONE}"}}"#)).await;
        tombstone(&mut client, &stream).await;
        delete(&mut client, &format!("deleted-{number}")).await;
        let limits = [
            ("counted", r#"{"$maxCount":1}"#),
            ("truncated", r#"{"$tb":11}"#),
            ("aged", r#"{"$maxAge":1}"#),
        ];
        for (stream, limit) in limits {
            let stream = format!("{stream}-{number}");
            set_metadata(&mut client, &stream, &format!(r#"{{"owner":"{GONE}"}}"#)).await;
            set_metadata(&mut client, &stream, limit).await;
        }
        delete(&mut client, &format!("whole-{number}")).await;
        // The stream is recreated, which removes everything before.
        let event = marked(KEPT, 0);
        append(&mut client, &format!("whole-{number}"), any(), vec![event])
            .await
            .unwrap();
    }
    soon("the age of the events", async {
        while !read_stream(&mut client, &format!("aged-{}", STREAMS - 1))
            .await
            .is_empty()
        {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert!(
        found(db.path(), GONE.as_bytes()) > 0 && found(db.path(), GONE_ID) > 0,
        "the control"
    );

    scavenge(&operator(server.address())).await;
    assert!(is_gone(db.path()));
    // The last event of each stream remains, even if the stream is deleted or its events have expired.
    let log = read_all(&mut client).await;
    let kept = log
        .iter()
        .filter(|event| event.metadata["type"] == KEPT)
        .count();
    assert_eq!(kept, 5 * STREAMS);
    server.shutdown().await;
    assert!(is_gone(db.path()));
}

#[tokio::test]
async fn positions_and_revisions_continue_after_a_scavenge() {
    let (_db, server) = start().await;
    let mut client = connect(server.address()).await;
    let mut positions = Vec::new();
    for stream in [
        "gone", "kept", "gone", "gone", "kept", "counted", "gone", "counted",
    ] {
        let events = vec![marked(KEPT, 0)];
        positions.push(
            append(&mut client, stream, any(), events)
                .await
                .unwrap()
                .position,
        );
    }
    set_metadata(&mut client, "counted", r#"{"$maxCount":1}"#).await;
    tombstone(&mut client, "gone").await;
    let before = read_all(&mut client).await;
    scavenge(&operator(server.address())).await;

    let stays = |event: &&_| !is_removed(event);
    let after: Vec<_> = before.iter().filter(stays).cloned().collect();
    assert_eq!(read_all(&mut client).await, after);
    assert_eq!(after.len(), 5);
    for position in positions {
        let from_here = after
            .iter()
            .filter(|event| event.commit_position >= position);
        let request = read_request(at(position), CountOption::Count(100));
        assert!(
            read(&mut client, request)
                .await
                .unwrap()
                .iter()
                .eq(from_here)
        );
        let request = read_request(at(position), for_ever());
        let mut subscription = open(&mut client, request).await.unwrap();
        for event in after
            .iter()
            .filter(|event| event.commit_position > position)
        {
            assert_eq!(next_event(&mut subscription).await, *event);
        }
    }
    let next = ExpectedStreamRevision::Revision(1);
    let appended = append(&mut client, "counted", next, vec![marked(KEPT, 0)])
        .await
        .unwrap();
    assert_eq!(appended.revision, Some(2));
    assert!(
        append(&mut client, "gone", any(), vec![marked(KEPT, 0)])
            .await
            .is_err()
    );
}

fn is_removed(
    event: &eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent,
) -> bool {
    let name = &event.stream_identifier.as_ref().unwrap().stream_name[..];
    let is_tombstone = event.metadata["type"] == "$streamDeleted";
    (name == b"gone" && !is_tombstone) || (name == b"counted" && event.stream_revision == 0)
}

fn at(position: u64) -> StreamOption {
    let position = Position {
        commit_position: position,
        prepare_position: position,
    };
    StreamOption::All(AllOptions {
        all_option: Some(all_options::AllOption::Position(position)),
    })
}

/// A tool that reads the database file while the server is running.
fn reader(db: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY;
    Connection::open_with_flags(db.join("events.db"), flags).unwrap()
}

fn count(reader: &Connection) -> i64 {
    reader
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap()
}

#[tokio::test]
async fn the_next_scavenge_finishes_one_that_was_killed() {
    let db = tempfile::tempdir().unwrap();
    let server = Process::start(db.path()).await;
    let mut client = connect(&server.address).await;
    fill(&mut client, &["tombstoned", "deleted"]).await;
    // An old snapshot keeps the write-ahead log as it is, so the scavenge cannot end before the kill.
    let reader = reader(db.path());
    let past = reader.unchecked_transaction().unwrap();
    let all = count(&past);
    for number in 0..STREAMS {
        delete(&mut client, &format!("deleted-{number}")).await;
    }
    tombstone_odd(&mut client).await;
    let watching = self::reader(db.path());
    start_scavenge(&operator(&server.address)).await;
    soon("the first events to go", async {
        while count(&watching) >= all {
            tokio::task::yield_now().await;
        }
    })
    .await;
    server.kill().await;
    drop((past, watching));
    drop(reader);
    assert!(!is_gone(db.path()), "the control");

    // The server is killed at an arbitrary point.
    for _ in 0..3 {
        let server = Process::start(db.path()).await;
        start_scavenge(&operator(&server.address)).await;
        server.kill().await;
    }
    let server = Process::start(db.path()).await;
    scavenge(&operator(&server.address)).await;
    let mut client = connect(&server.address).await;
    for number in (0..STREAMS).step_by(2) {
        let whole = read_stream(&mut client, &format!("tombstoned-{number}")).await;
        assert_eq!(whole.len(), 12);
        tombstone(&mut client, &format!("tombstoned-{number}")).await;
    }
    scavenge(&operator(&server.address)).await;
    assert!(is_gone(db.path()));
    server.kill().await;
    assert!(is_gone(db.path()));
}

async fn tombstone_odd(client: &mut Client) {
    for number in (1..STREAMS).step_by(2) {
        tombstone(client, &format!("tombstoned-{number}")).await;
    }
}

#[tokio::test]
async fn one_scavenge_runs_at_a_time_and_can_be_stopped() {
    let (db, server) = start().await;
    let mut client = connect(server.address()).await;
    append(&mut client, "s", any(), vec![marked(GONE, 0)])
        .await
        .unwrap();
    let reader = reader(db.path());
    let past = reader.unchecked_transaction().unwrap();
    assert_eq!(count(&past), 1);
    tombstone(&mut client, "s").await;

    let operator = operator(server.address());
    let (id, status) = start_scavenge(&operator).await;
    assert_eq!(status, ScavengeStatus::Started);
    assert_eq!(
        start_scavenge(&operator).await,
        (id.clone(), ScavengeStatus::InProgress)
    );
    let mut wire = OperationsClient::connect(format!("http://{}", server.address()))
        .await
        .unwrap();
    let unknown = new_id();
    let mut stop = async |id: &str| {
        let options = Some(stop_scavenge_req::Options {
            scavenge_id: id.to_owned(),
        });
        wire.stop_scavenge(StopScavengeReq { options }).await
    };
    let refused = stop(&unknown).await.unwrap_err();
    assert_eq!(refused.code(), Code::NotFound);
    assert_eq!(
        refused.metadata().get("exception").unwrap(),
        "scavenge-not-found"
    );
    assert_eq!(
        refused.metadata().get("scavenge-id").unwrap(),
        unknown.as_str()
    );
    let stopped = operator
        .stop_scavenge(&id, &OperationalOptions::default())
        .await
        .unwrap();
    assert_eq!(
        (stopped.id(), stopped.status()),
        (&*id, ScavengeStatus::Stopped)
    );
    assert_eq!(
        stop(&id).await.unwrap_err().code(),
        Code::NotFound,
        "the scavenge still runs"
    );
    drop(past);
    let (next, status) = start_scavenge(&operator).await;
    assert!(next != id && status == ScavengeStatus::Started);
}

#[tokio::test]
async fn a_missing_argument_of_an_operation_is_named() {
    let (_db, server) = start().await;
    let mut wire = OperationsClient::connect(format!("http://{}", server.address()))
        .await
        .unwrap();
    let refusals = [
        wire.start_scavenge(StartScavengeReq::default())
            .await
            .unwrap_err(),
        wire.stop_scavenge(StopScavengeReq::default())
            .await
            .unwrap_err(),
    ];
    for refused in refusals {
        assert_eq!(refused.code(), Code::InvalidArgument);
        assert!(refused.message().contains("options"));
    }
}

#[tokio::test]
async fn a_client_can_stop_the_server() {
    let db = tempfile::tempdir().unwrap();
    let mut server = Process::start(db.path()).await;
    let (operator, options) = (operator(&server.address), OperationalOptions::default());
    operator.merge_indexes(&options).await.unwrap();
    operator.resign_node(&options).await.unwrap();
    operator.set_node_priority(1, &options).await.unwrap();
    operator
        .restart_persistent_subscriptions(&options)
        .await
        .unwrap();
    operator.shutdown(&options).await.unwrap();
    let ended = soon("the end of the process", server.child.wait())
        .await
        .unwrap();
    assert!(ended.success());
}
