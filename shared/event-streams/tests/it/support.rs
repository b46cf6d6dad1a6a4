//! Test support: a server that can be restarted at the same address, a proxy that loses answers, and waiting with a
//! deadline.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use event_streams::{EventStreams, NewEvent};
use eventstore_lite::{Config, Server};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use uuid::Uuid;

/// The time limit of each wait in these tests.
const DEADLINE: Duration = Duration::from_secs(30);

/// A server with its data in a temporary folder.
pub(crate) struct Store {
    folder: tempfile::TempDir,
    address: SocketAddr,
    server: Option<Server>,
}

impl Store {
    pub(crate) async fn start() -> Self {
        let mut store = Self {
            folder: tempfile::tempdir().unwrap(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            server: None,
        };
        store.start_again().await;
        store
    }

    pub(crate) async fn start_again(&mut self) {
        let mut config = Config::new(self.folder.path());
        config.address = self.address;
        let server = Server::start(config).await.unwrap();
        self.address = server.address();
        self.server = Some(server);
    }

    pub(crate) async fn stop(&mut self) {
        self.server.take().unwrap().shutdown().await;
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn connect(&self) -> EventStreams {
        connect_to(self.address)
    }
}

pub(crate) fn connect_to(address: SocketAddr) -> EventStreams {
    EventStreams::connect(&format!("esdb://{address}?tls=false")).unwrap()
}

pub(crate) fn event(event_type: &'static str) -> NewEvent {
    NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.into(),
        data: Bytes::from_static(b"{\"n\":1}"),
        metadata: Bytes::new(),
    }
}

/// Returns the result of the work, or panics after the deadline.
pub(crate) async fn soon<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(DEADLINE, work)
        .await
        .expect("the deadline has passed")
}

/// Waits until the condition holds.
pub(crate) async fn until(condition: impl AsyncFn() -> bool) {
    soon(async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A proxy that can drop the next answer together with its connection.
pub(crate) struct LossyProxy {
    address: SocketAddr,
    lose_next_answer: Arc<AtomicBool>,
}

impl LossyProxy {
    pub(crate) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let lose_next_answer = Arc::new(AtomicBool::new(false));
        tokio::spawn(serve(listener, server, Arc::clone(&lose_next_answer)));
        Self {
            address,
            lose_next_answer,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn lose_next_answer(&self) {
        self.lose_next_answer.store(true, Ordering::SeqCst);
    }

    pub(crate) fn has_lost_an_answer(&self) -> bool {
        !self.lose_next_answer.load(Ordering::SeqCst)
    }
}

async fn serve(listener: TcpListener, server: SocketAddr, lose_next_answer: Arc<AtomicBool>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        tokio::spawn(forward(client, server, Arc::clone(&lose_next_answer)));
    }
}

async fn forward(client: TcpStream, server: SocketAddr, lose_next_answer: Arc<AtomicBool>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let never = AtomicBool::new(false);
    tokio::select! {
        () = copy(from_client, to_server, &never) => {}
        () = copy(from_server, to_client, &lose_next_answer) => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, lose_next: &AtomicBool) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer).await {
        // Control frames of HTTP/2 are shorter than any answer.
        let is_answer = count > 40;
        if count == 0 || (is_answer && lose_next.swap(false, Ordering::SeqCst)) {
            return;
        }
        if to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
