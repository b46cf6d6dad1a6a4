//! The cost of a commit does not grow with the number of live subscriptions.

use eventstore_lite::wire::streams::ReadResp;
use eventstore_lite::wire::streams::read_req::options::StreamOption;
use eventstore_lite::wire::streams::read_resp::Content;
use eventstore_lite::{Config, Server};
use tempfile::TempDir;
use tonic::Streaming;

use crate::support::{
    Client, all_from_start, any, append, connect, event, for_ever, from_start, http_1, id_of,
    new_id, next_event, open, read_request, soon,
};

const STREAM: &str = "live-1";
const APPENDS: u64 = 20;
const MANY: usize = 50;

async fn start_with_memory(bytes: usize) -> (TempDir, Server) {
    let db = tempfile::tempdir().unwrap();
    let mut config = Config::new(db.path());
    config.limits.recent_bytes = bytes;
    config.system_projections = true;
    let server = Server::start(config).await.unwrap();
    (db, server)
}

async fn live(client: &mut Client, stream: StreamOption) -> Streaming<ReadResp> {
    let mut request = read_request(stream, for_ever());
    request.resolve_links = true;
    let mut answers = open(client, request).await.unwrap();
    loop {
        let answer = soon("the end of the log", answers.message()).await;
        if let Some(Content::CaughtUp(_)) = answer.unwrap().unwrap().content {
            return answers;
        }
    }
}

/// The number of database reads so far.
async fn database_reads(server: &Server) -> u64 {
    let answer = http_1(server, "GET /metrics HTTP/1.1\r\nHost: test", b"").await;
    let mut lines = answer.lines();
    let reads = lines.find_map(|line| line.strip_prefix("eventstore_db_reads "));
    reads.unwrap().parse().unwrap()
}

/// The number of database reads for some appends that `count` subscribers receive, all of which have caught up.
async fn reads_for(count: usize, memory: usize, stream: fn() -> StreamOption) -> u64 {
    let (_db, server) = start_with_memory(memory).await;
    let mut client = connect(server.address()).await;
    let seed = vec![event(&new_id(), "x")];
    append(&mut client, STREAM, any(), seed).await.unwrap();
    let mut subscribers = Vec::new();
    for _ in 0..count {
        subscribers.push(live(&mut client, stream()).await);
    }
    let before = database_reads(&server).await;
    for _ in 0..APPENDS {
        let id = new_id();
        let one = vec![event(&id, "x")];
        append(&mut client, STREAM, any(), one).await.unwrap();
        for subscriber in &mut subscribers {
            assert_eq!(id_of(&next_event(subscriber).await), id);
        }
    }
    let reads = database_reads(&server).await - before;
    server.shutdown().await;
    reads
}

fn followed() -> StreamOption {
    from_start(STREAM)
}

fn category() -> StreamOption {
    from_start("$ce-live")
}

#[tokio::test]
async fn an_append_costs_many_subscribers_of_the_log_no_more_reads_than_one() {
    let memory = 1024 * 1024;
    assert_eq!(reads_for(1, memory, all_from_start).await, 0);
    assert_eq!(reads_for(MANY, memory, all_from_start).await, 0);
}

#[tokio::test]
async fn an_append_costs_many_subscribers_of_a_stream_no_more_reads_than_one() {
    let memory = 1024 * 1024;
    assert_eq!(reads_for(1, memory, followed).await, 0);
    assert_eq!(reads_for(MANY, memory, followed).await, 0);
}

#[tokio::test]
async fn an_append_costs_many_subscribers_of_a_system_stream_no_more_reads_than_one() {
    let memory = 1024 * 1024;
    let most = APPENDS;
    assert!(reads_for(1, memory, category).await <= most);
    assert!(reads_for(MANY, memory, category).await <= most);
}

/// The control: reads are counted.
#[tokio::test]
async fn without_memory_for_the_last_events_every_subscriber_of_the_log_reads_for_itself() {
    let reads = reads_for(3, 0, all_from_start).await;
    assert!(reads >= 3 * APPENDS, "{reads} reads");
}

#[tokio::test]
async fn a_subscriber_that_falls_behind_memory_gets_every_event_from_the_database() {
    const EVENTS: usize = 3000;
    let (_db, server) = start_with_memory(16 * 1024).await;
    let mut client = connect(server.address()).await;
    let mut slow = live(&mut client, all_from_start()).await;
    let mut slow_of_stream = live(&mut client, from_start(STREAM)).await;
    let mut ids = Vec::new();
    for _ in 0..EVENTS / 100 {
        let together: Vec<_> = (0..100).map(|_| new_id()).collect();
        let events = together.iter().map(|id| event(id, vec![0; 2000])).collect();
        append(&mut client, STREAM, any(), events).await.unwrap();
        ids.extend(together);
    }
    for subscriber in [&mut slow, &mut slow_of_stream] {
        for id in &ids {
            assert_eq!(&id_of(&next_event(subscriber).await), id);
        }
    }
    server.shutdown().await;
}
