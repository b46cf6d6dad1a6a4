//! Tests with a full disk: writes are refused with a reason, reads continue, and writes continue when there is space
//! again.

use std::fs;
use std::path::Path;
use std::process::Command;

use eventstore_lite::wire::streams::batch_append_req::options::ExpectedStreamPosition;
use eventstore_lite::wire::streams::batch_append_req::{Options, ProposedMessage};
use eventstore_lite::wire::streams::batch_append_resp::Result as Answer;
use eventstore_lite::wire::streams::{BatchAppendReq, BatchAppendResp};
use tempfile::TempDir;
use tonic::Code;

use crate::support::process::Process;
use crate::support::{
    Client, any, append, connect, event, id, id_of, identifier, new_id, read_all, soon,
};

/// A disk of two megabytes.
struct SmallDisk(TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", "size=2m", "none"]);
        let mounted = mount.arg(folder.path()).status().unwrap();
        assert!(
            mounted.success(),
            "this test mounts a tmpfs: run it as root"
        );
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // A killed server is gone at once, and with it its open files on the disk.
        drop(Command::new("umount").arg("-l").arg(self.path()).status());
    }
}

/// Appends until an append is refused. Returns the ids of the acknowledged events, and the status of the refusal.
async fn fill(client: &mut Client) -> (Vec<String>, tonic::Status) {
    let mut acknowledged = Vec::new();
    loop {
        let id = new_id();
        let event = event(&id, vec![b'x'; 10_000]);
        match append(client, "s", any(), vec![event]).await {
            Ok(_) => acknowledged.push(id),
            Err(status) => return (acknowledged, status),
        }
    }
}

async fn append_by_session(client: &mut Client) -> BatchAppendResp {
    let event = event(&new_id(), vec![b'x'; 10_000]);
    let proposed = ProposedMessage {
        id: event.id,
        metadata: event.metadata,
        custom_metadata: event.custom_metadata,
        data: event.data,
    };
    let request = BatchAppendReq {
        correlation_id: Some(id(&new_id())),
        options: Some(Options {
            stream_identifier: Some(identifier("s")),
            expected_stream_position: Some(ExpectedStreamPosition::Any(())),
            deadline_option: None,
        }),
        proposed_messages: vec![proposed],
        is_final: true,
    };
    let answers = client.batch_append(tokio_stream::iter([request])).await;
    let answer = soon("an answer", answers.unwrap().into_inner().message()).await;
    answer.unwrap().unwrap()
}

#[tokio::test]
async fn a_full_disk_refuses_writes_and_loses_nothing() {
    let disk = SmallDisk::mount();
    let (db, ballast) = (disk.path().join("db"), disk.path().join("ballast"));
    fs::write(&ballast, vec![0; 1_000_000]).unwrap();
    let server = Process::start(&db).await;
    let mut client = connect(&server.address).await;

    let (mut acknowledged, refused) = soon("a full disk", fill(&mut client)).await;
    assert_eq!(refused.code(), Code::ResourceExhausted, "{refused:?}");
    assert!(refused.message().contains("disk is full"), "{refused:?}");
    let Some(Answer::Error(error)) = append_by_session(&mut client).await.result else {
        panic!("a session wrote to a full disk");
    };
    assert_eq!(error.code, i32::from(Code::ResourceExhausted));
    assert!(error.message.contains("disk is full"), "{error:?}");
    let read: Vec<_> = read_all(&mut client).await.iter().map(id_of).collect();
    assert!(!read.is_empty() && read == acknowledged);

    fs::remove_file(&ballast).unwrap();
    let (more, _) = soon("a full disk", fill(&mut client)).await;
    assert!(!more.is_empty(), "no write succeeded after space was freed");
    acknowledged.extend(more);
    server.kill().await;

    // The folder is copied to a larger disk, because a start needs some space.
    let rescue = tempfile::tempdir().unwrap();
    for file in ["events.db", "events.db-wal"] {
        fs::copy(db.join(file), rescue.path().join(file)).unwrap();
    }
    let server = Process::start(rescue.path()).await;
    let mut client = connect(&server.address).await;
    let read: Vec<_> = read_all(&mut client).await.iter().map(id_of).collect();
    assert!(read == acknowledged, "after a crash on a full disk");
    server.kill().await;
}
