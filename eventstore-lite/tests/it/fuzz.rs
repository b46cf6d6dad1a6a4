//! Sends requests that no client would send, to every method. Each is answered, none makes the server fail, and the
//! server keeps working. `FUZZ_REQUESTS` sets their number; `FUZZ_SEED` repeats a run.

mod generate;
mod raw;

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use tokio::process::Command;
use tokio::task::JoinSet;
use tonic::Code;
use tonic::transport::Channel;

use crate::support::dynamic::{Method, methods};
use crate::support::process::{EXECUTABLE, Process};
use crate::support::{any, append, connect, event, new_id, read_stream, soon};

const REQUESTS: u64 = 4_000;
const WORKERS: u64 = 8;
/// The maximum number of messages of a call.
const MESSAGES: std::ops::Range<usize> = 1..4;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

#[tokio::test]
async fn the_server_answers_whatever_is_sent_and_keeps_working() {
    let seed = number("FUZZ_SEED").unwrap_or_else(rand::random);
    println!("FUZZ_SEED={seed}");
    let folder = tempfile::tempdir().unwrap();
    let (db, complaints) = (folder.path().join("db"), folder.path().join("stderr"));
    let mut command = Command::new(EXECUTABLE);
    command.stderr(File::create(&complaints).unwrap());
    let server = Process::start_under(command, &db, &[]).await;

    let mut workers = JoinSet::new();
    let each = number("FUZZ_REQUESTS").unwrap_or(REQUESTS) / WORKERS;
    for worker in 0..WORKERS {
        let rng = SmallRng::seed_from_u64(seed.wrapping_add(worker));
        workers.spawn(send(server.address.clone(), each, rng));
    }
    let mut answers = BTreeMap::<String, u64>::new();
    for worker in workers.join_all().await {
        for code in worker {
            *answers.entry(format!("{code:?}")).or_default() += 1;
        }
    }
    println!("{answers:?}");
    for code in ["Ok", "InvalidArgument", "Internal"] {
        assert!(answers.contains_key(code), "no request was answered {code}");
    }
    keeps_working(&server).await;
    assert!(!panicked(&complaints), "{}", read(&complaints));
    server.kill().await;
    std::fs::write(&complaints, "thread 'planted' panicked at here").unwrap();
    assert!(
        panicked(&complaints),
        "the control: a panic was not detected"
    );
}

fn read(complaints: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(complaints).unwrap()).into_owned()
}

fn panicked(complaints: &Path) -> bool {
    read(complaints).contains("panicked at")
}

async fn send(address: String, requests: u64, mut rng: SmallRng) -> Vec<Code> {
    let endpoint = Channel::from_shared(format!("http://{address}")).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let methods: Vec<Method> = methods().filter(may_be_sent).collect();
    let mut codes = Vec::new();
    for _ in 0..requests {
        let method = &methods[rng.random_range(0..methods.len())];
        let count = if method.is_client_streaming() {
            rng.random_range(MESSAGES)
        } else {
            1
        };
        let messages: Vec<_> = (0..count)
            .map(|_| generate::message(method, &mut rng))
            .collect();
        let shown = format!("{} {messages:02x?}", method.path());
        let answer = raw::call(channel.clone(), method.path(), messages);
        let status = soon(&shown, answer).await;
        let code = status.code();
        // The real server refuses settings of a persistent subscription like this, and tonic refuses messages that it
        // cannot decode.
        let is_refusal = || {
            ["failed: '", "decode"]
                .iter()
                .any(|said| status.message().contains(said))
        };
        let is_well = match code {
            Code::Internal => is_refusal(),
            // Another worker may have changed it at the same time.
            Code::Unavailable | Code::Cancelled => {
                status.message().to_lowercase().contains("subscription")
            }
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::FailedPrecondition
            | Code::Aborted
            | Code::DeadlineExceeded
            | Code::OutOfRange
            | Code::ResourceExhausted => true,
            Code::Unknown
            | Code::PermissionDenied
            | Code::Unauthenticated
            | Code::Unimplemented
            | Code::DataLoss => false,
        };
        assert!(is_well, "{shown}: {status}");
        codes.push(code);
    }
    codes
}

/// A shutdown would stop the server, and unsupported services read nothing.
fn may_be_sent(method: &Method) -> bool {
    let not = [
        "Operations/Shutdown",
        "users.Users/",
        "projections.Projections/",
    ];
    !not.iter().any(|part| method.path().contains(part))
}

/// Checks that no thread is stuck: more reads and writes than threads are answered at once.
async fn keeps_working(server: &Process) {
    let mut calls = JoinSet::new();
    for _ in 0..32 {
        let address = server.address.clone();
        calls.spawn(async move {
            let mut client = connect(address).await;
            let name = new_id();
            append(&mut client, &name, any(), vec![event(&new_id(), "fine")])
                .await
                .unwrap();
            read_stream(&mut client, &name).await.len()
        });
    }
    let read = soon("reads and writes", calls.join_all()).await;
    assert_eq!(read, [1; 32]);
}
