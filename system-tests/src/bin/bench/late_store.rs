//! A proxy before the store that acknowledges as late as Linux allows, as the real server's kernel does: a client that
//! waits for acknowledgements before it sends the rest of a request waits 40 ms here.

use anyhow::{Result, ensure};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// Linux delays an acknowledgement by 40 ms at least.
const LATE: Duration = Duration::from_millis(30);

/// Serves until the process is killed, and says where in the form of the services' log line.
#[tokio::main]
pub(crate) async fn run(store: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    println!(r#"{{"fields":{{"message":"listening","address":"{address}"}}}}"#);
    loop {
        let (client, _) = listener.accept().await?;
        tokio::spawn(forward(client, store));
    }
}

async fn forward(client: TcpStream, store: SocketAddr) -> io::Result<()> {
    let server = TcpStream::connect(store).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        ended = read_late(from_client, to_server) => ended,
        ended = copy(&mut from_server, &mut to_client) => ended.map(|_| ()),
    }
}

/// The kernel forgets that it shall acknowledge late, so it is told before every read.
async fn read_late(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        SockRef::from(from.as_ref()).set_tcp_quickack(false)?;
        let count = from.read(&mut buffer).await?;
        if count == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}

/// The control: a request in two pieces from a client without `TCP_NODELAY` waits before the late store, and not before
/// the store itself.
pub(crate) async fn check(store: SocketAddr, late_store: SocketAddr) -> Result<()> {
    let (prompt, late) = (
        in_two_pieces(store).await?,
        in_two_pieces(late_store).await?,
    );
    ensure!(
        late > LATE && prompt < LATE,
        "the late store answers a request in two pieces after {late:?}, the store itself after {prompt:?}"
    );
    Ok(())
}

/// The median of some requests: the first segments of a connection are acknowledged at once.
async fn in_two_pieces(address: SocketAddr) -> Result<Duration> {
    let mut socket = TcpStream::connect(address).await?;
    let mut times = Vec::new();
    for _ in 0..21 {
        let began = Instant::now();
        socket.write_all(b"GET /health/live HTTP/1.1\r\n").await?;
        socket.write_all(b"Host: localhost\r\n\r\n").await?;
        let count = socket.read(&mut [0; 4096]).await?;
        ensure!(count > 0, "{address} closed the connection");
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times[times.len() / 2])
}
