//! A proxy in front of the store that delays TCP acknowledgements as long as Linux allows, as the real server's kernel
//! does. A client that waits for an acknowledgement before it sends the rest of a request waits 40 ms.

use anyhow::{Result, ensure};
use socket2::SockRef;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};

/// A delay above this is due to a delayed acknowledgement, which Linux delays by at least 40 ms.
const LATE: Duration = Duration::from_millis(30);

/// Serves until the process is killed. Prints its address in the format of the services' logs.
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

/// Forwards bytes with delayed acknowledgements. The kernel resets the option, so it is set before every read.
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

/// The control: a request that a client without `TCP_NODELAY` sends in two pieces is slow through the late store, and
/// fast at the store itself.
pub(crate) async fn check(store: SocketAddr, late_store: SocketAddr) -> Result<()> {
    let (prompt, late) = (
        in_two_pieces(store).await?,
        in_two_pieces(late_store).await?,
    );
    ensure!(
        late > LATE && prompt < LATE,
        "a request in two pieces takes {late:?} through the late store, and {prompt:?} at the store itself"
    );
    Ok(())
}

/// The median time of requests in two pieces. A median, because the kernel acknowledges the first segments of a
/// connection at once.
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
