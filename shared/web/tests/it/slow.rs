//! Connections that send very little and keep their place for long.

use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use actix_web::{
    HttpResponse,
    web::{Bytes, get, resource},
};
use futures::Stream;
use reqwest::StatusCode;
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::Notify};

use web::{Readiness, Server};

use crate::support::{GOOD, TestApp, spawn_patient_app, spawn_server};

const SLOW: usize = 1_000;

/// More connections than the standard library lets wait, and fewer than [`FEW_FILES`].
const BURST: usize = 300;

/// Fewer files than there are connections. Many systems begin a process with such a limit, and allow it to raise it.
const FEW_FILES: u64 = 512;

/// The beginnings of requests that one byte at a time prolongs but never finishes.
const BEGINNINGS: [&str; 4] = [
    "GET /",
    "GET / HTTP/1.1\r\nHost: x\r\nX-Slow: ",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n",
    "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n",
];

async fn slow_connections(app: &TestApp) -> Vec<TcpStream> {
    let address = app.url.trim_start_matches("http://");
    let mut connections = Vec::new();
    for beginning in BEGINNINGS.iter().cycle().take(SLOW) {
        let mut connection = TcpStream::connect(address).await.unwrap();
        connection.write_all(beginning.as_bytes()).await.unwrap();
        connections.push(connection);
    }
    connections
}

/// Whether the server has neither answered nor ended the connection.
fn waits(connection: &TcpStream) -> bool {
    let read = connection.try_read(&mut [0]);
    read.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
}

#[tokio::test]
async fn a_thousand_slow_connections_hold_up_nobody() {
    let (_, most) = rlimit::Resource::NOFILE.get().unwrap();
    assert!(most > 3 * SLOW as u64, "this system allows too few files");
    rlimit::Resource::NOFILE.set(FEW_FILES, most).unwrap();
    let app = spawn_patient_app();
    let mut slow = slow_connections(&app).await;
    for round in 0..3 {
        for connection in &mut slow {
            connection.write_all(b"x").await.unwrap();
        }
        for _ in 0..50 {
            // Each request opens a connection of its own.
            let created = app.post(GOOD).send().await.unwrap();
            assert_eq!(created.status(), StatusCode::CREATED);
        }
        let waiting = slow.iter().filter(|connection| waits(connection));
        assert_eq!(waiting.count(), SLOW, "in round {round}");
    }
}

/// A connection for which there is no room is only made by a later attempt of the client's system.
#[tokio::test]
async fn a_burst_of_connections_is_made_before_the_server_accepts_any() {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let connect = |_| TcpStream::connect(server.address());
    let connections = futures::future::try_join_all((0..BURST).map(connect));
    let made = tokio::time::timeout(Duration::from_mins(1), connections).await;
    assert_eq!(made.expect("there is room").unwrap().len(), BURST);
}

/// An answer without an end, which tells when it is dropped.
struct Endless(Arc<Notify>);

impl Stream for Endless {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        Poll::Ready(Some(Ok(Bytes::from_static(&[b'x'; 4_096]))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.0.notify_one();
    }
}

fn spawn_endless_app(dropped: &Arc<Notify>) -> TestApp {
    let server = Server::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let server = server.read_within(Duration::from_millis(200)).unwrap();
    let dropped = Arc::clone(dropped);
    spawn_server(server, Readiness::new(), move |config| {
        let dropped = Arc::clone(&dropped);
        let endless = move || {
            let body = Endless(Arc::clone(&dropped));
            async move { HttpResponse::Ok().streaming(body) }
        };
        config.service(resource("/").route(get().to(endless)));
    })
}

#[tokio::test]
async fn an_answer_that_nobody_reads_ends() {
    let dropped = Arc::new(Notify::new());
    let app = spawn_endless_app(&dropped);
    let address = app.url.trim_start_matches("http://");
    let mut client = TcpStream::connect(address).await.unwrap();
    client
        .write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let ended = tokio::time::timeout(Duration::from_mins(1), dropped.notified());
    ended.await.expect("the connection ends");
}

#[tokio::test]
async fn head_of_an_answer_without_an_end_is_answered_and_keeps_nothing() {
    let dropped = Arc::new(Notify::new());
    let app = spawn_endless_app(&dropped);
    let head = app
        .request(reqwest::Method::HEAD, "/")
        .send()
        .await
        .unwrap();
    assert_eq!(head.status(), StatusCode::OK);
    let ended = tokio::time::timeout(Duration::from_mins(1), dropped.notified());
    ended.await.expect("the answer is dropped");
}
