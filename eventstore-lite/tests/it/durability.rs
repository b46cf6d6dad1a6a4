//! Shows with a trace of system calls that no acknowledgement leaves the server before a flush to disk that covers
//! it. As a control, the same check finds the fault in a server that does not flush.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use eventstore_lite::wire::streams::batch_append_req::options::ExpectedStreamPosition;
use eventstore_lite::wire::streams::batch_append_req::{Options, ProposedMessage};
use eventstore_lite::wire::streams::batch_append_resp::Result as Answer;
use eventstore_lite::wire::streams::{BatchAppendReq, BatchAppendResp};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::support::process::{EXECUTABLE, Process};
use crate::support::{connect, event, id, identifier, new_id, soon};

/// The number of appends one by one, and of concurrent appends.
const ALONE: usize = 20;
const TOGETHER: usize = 60;

#[tokio::test]
async fn no_acknowledgement_leaves_before_a_flush_that_covers_it() {
    let trace = traced(&[]).await;
    assert_eq!(early_acknowledgements(&trace), Vec::<String>::new());
}

#[tokio::test]
async fn a_server_that_does_not_flush_is_detected() {
    let trace = traced(&[OsStr::new("--unsafe-disable-flush-to-disk")]).await;
    assert_eq!(early_acknowledgements(&trace).len(), ALONE + TOGETHER);
}

fn marker(number: usize) -> String {
    format!("00000000-dead-4bee-8000-{number:012}")
}

/// Runs the server under strace, appends, and returns the system calls. The answer to an append echoes its
/// correlation id, and the event has the same text as its data, so both can be found in the trace.
async fn traced(arguments: &[&OsStr]) -> Vec<Call> {
    let version = std::process::Command::new("strace").arg("-V").output();
    version.expect("this test needs strace: apt-get install strace");
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("trace");
    let mut strace = Command::new("strace");
    // With -D the server is the child of this process, and strace ends with it.
    strace.args(["-D", "-f", "-yy", "-s", "65536", "-e", CALLS, "-o"]);
    strace.arg(&output).arg(EXECUTABLE);
    let server = Process::start_under(strace, &folder.path().join("db"), arguments).await;
    append_all(&server.address).await;
    let pid = server.child.id().unwrap();
    server.kill().await;
    soon("the end of the trace", complete(&output, pid)).await
}

const CALLS: &str = "trace=write,writev,pwrite64,pwritev,sendto,sendmsg,fsync,fdatasync";

async fn append_all(address: &str) {
    let (sender, receiver) = mpsc::channel(1);
    let mut client = connect(address).await;
    let mut answers = client
        .batch_append(ReceiverStream::new(receiver))
        .await
        .unwrap()
        .into_inner();
    for number in 0..ALONE {
        sender.send(request(number)).await.unwrap();
        expect_success(&mut answers).await;
    }
    let all_at_once = tokio::spawn(async move {
        for number in ALONE..ALONE + TOGETHER {
            sender.send(request(number)).await.unwrap();
        }
        sender
    });
    for _ in 0..TOGETHER {
        expect_success(&mut answers).await;
    }
    all_at_once.await.unwrap();
}

async fn expect_success(answers: &mut Streaming<BatchAppendResp>) {
    let answer = soon("an answer", answers.message()).await.unwrap().unwrap();
    assert!(
        matches!(answer.result, Some(Answer::Success(_))),
        "{answer:?}"
    );
}

fn request(number: usize) -> BatchAppendReq {
    let event = event(&new_id(), marker(number));
    let proposed = ProposedMessage {
        id: event.id,
        metadata: event.metadata,
        custom_metadata: event.custom_metadata,
        data: event.data,
    };
    let options = Options {
        stream_identifier: Some(identifier(format!("s-{}", number % 7))),
        expected_stream_position: Some(ExpectedStreamPosition::Any(())),
        deadline_option: None,
    };
    BatchAppendReq {
        correlation_id: Some(id(&marker(number))),
        options: Some(options),
        proposed_messages: vec![proposed],
        is_final: true,
    }
}

/// The trace, once strace has written it completely.
async fn complete(output: &Path, pid: u32) -> Vec<Call> {
    loop {
        let trace = std::fs::read(output).unwrap();
        let trace = String::from_utf8_lossy(&trace);
        let is_end = |line: &str| {
            line.starts_with(&pid.to_string()) && line.contains("+++ killed by SIGKILL")
        };
        if trace.lines().any(is_end) {
            return parse(&trace);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// A system call. strace writes a line when it begins, and another line when it ends if other calls come between.
#[derive(Debug)]
struct Call {
    text: String,
    began: usize,
    ended: usize,
}

impl Call {
    fn writes_log(&self) -> bool {
        self.text.starts_with("pwrite") && self.text.contains("events.db-wal>")
    }

    fn flushes_log(&self) -> bool {
        let is_flush = self.text.starts_with("fsync(") || self.text.starts_with("fdatasync(");
        is_flush && self.text.contains("events.db-wal>") && self.text.trim_end().ends_with("= 0")
    }

    fn answers(&self, marker: &str) -> bool {
        self.text.contains("<TCP:[") && joined(&self.text).contains(marker)
    }
}

/// Joins the pieces that the call writes, because a marker may be split between two.
fn joined(call: &str) -> String {
    let mut pieces = call.split("\", iov_len=");
    let mut joined = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        let next = piece.split_once("iov_base=\"");
        joined.push_str(next.map_or(piece, |(_, next)| next));
    }
    joined
}

fn parse(trace: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut unfinished: HashMap<&str, usize> = HashMap::new();
    for (number, line) in trace.lines().enumerate() {
        let (pid, text) = line.split_once(' ').unwrap();
        let text = text.trim_start();
        if let Some(resumed) = text.strip_prefix("<... ") {
            let Some(index) = unfinished.remove(pid) else {
                continue;
            };
            calls[index].text.push_str(resumed);
            calls[index].ended = number;
            continue;
        }
        let is_unfinished = text.ends_with("<unfinished ...>");
        if is_unfinished {
            unfinished.insert(pid, calls.len());
        }
        let ended = if is_unfinished { usize::MAX } else { number };
        calls.push(Call {
            text: text.to_owned(),
            began: number,
            ended,
        });
    }
    calls
}

/// The answers that left too early: without a flush between the write of the event and the answer. For a single
/// append nothing at all may be unflushed.
fn early_acknowledgements(calls: &[Call]) -> Vec<String> {
    let markers = (0..ALONE + TOGETHER).map(|number| (marker(number), number < ALONE));
    let early = markers.filter(|(marker, alone)| {
        let answer = calls
            .iter()
            .find(|call| call.answers(marker))
            .expect("an answer in the trace");
        let written = |call: &&Call| call.writes_log() && (*alone || call.text.contains(marker));
        let first = calls
            .iter()
            .find(|call| call.writes_log() && call.text.contains(marker));
        assert!(first.expect("an event in the trace").ended < answer.began);
        let before = calls.iter().take_while(|call| call.began < answer.began);
        let write = if *alone {
            before.filter(written).last()
        } else {
            first
        };
        let write = write.expect("a write before the answer");
        !calls
            .iter()
            .any(|call| call.flushes_log() && call.began > write.ended && call.ended < answer.began)
    });
    early.map(|(marker, _)| marker).collect()
}
