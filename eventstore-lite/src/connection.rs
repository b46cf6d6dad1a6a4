//! Accepts a bounded number of connections, and configures their sockets so that small answers and acknowledgements
//! are not delayed.
//!
//! Invariant: a silent connection ends, so that it takes the place of others only for a while.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::stream::{self, Stream};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, Sleep};
use tonic::transport::server::Connected;

use crate::calls::{CallConnection, Calls};
use crate::metrics::{GaugeGuard, Metrics};

/// The pause after a connection could not be accepted, for example for lack of file descriptors.
const PAUSE: Duration = Duration::from_millis(50);
/// A connection ends after this time without a received byte, also before its first byte or within a request. A live
/// HTTP/2 connection answers pings, so it is never silent for so long ([`KEEP_ALIVE`](crate::server::KEEP_ALIVE)).
const MOST_SILENCE: Duration = Duration::from_secs(30);

/// A connection of a client. The Rust client never sets `TCP_NODELAY`, so without a quick acknowledgement it would
/// wait 40 ms before it sends the rest of a request.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    silence: Pin<Box<Sleep>>,
    calls: Arc<Calls>,
    _permit: OwnedSemaphorePermit,
    _counted: GaugeGuard,
}

/// The connections, without end. At most `most` exist at once; others wait to be accepted.
pub(crate) fn incoming(
    listener: TcpListener,
    most: usize,
    metrics: Arc<Metrics>,
) -> impl Stream<Item = io::Result<Connection>> {
    let permits = Arc::new(Semaphore::new(most));
    stream::unfold(
        (listener, permits, metrics),
        |(listener, permits, metrics)| async {
            let permit = Arc::clone(&permits).acquire_owned().await.ok()?;
            let stream = accept(&listener).await;
            Some((
                Ok(Connection {
                    stream,
                    silence: Box::pin(tokio::time::sleep(MOST_SILENCE)),
                    calls: Arc::new(Calls::new(Arc::clone(&metrics))),
                    _permit: permit,
                    _counted: Arc::clone(&metrics).connected(),
                }),
                (listener, permits, metrics),
            ))
        },
    )
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await.and_then(prepared) {
            Ok(stream) => return stream,
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

fn prepared((stream, _): (TcpStream, SocketAddr)) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    acknowledge_quickly(&stream)?;
    Ok(stream)
}

/// Asks for quick acknowledgements. The kernel forgets this, so it is repeated after every read.
#[cfg(target_os = "linux")]
fn acknowledge_quickly(stream: &TcpStream) -> io::Result<()> {
    socket2::SockRef::from(stream).set_tcp_quickack(true)
}

#[cfg(not(target_os = "linux"))]
fn acknowledge_quickly(_: &TcpStream) -> io::Result<()> {
    Ok(())
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if read.is_pending() {
            ready!(self.silence.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        self.silence.as_mut().reset(Instant::now() + MOST_SILENCE);
        // This fails on a connection that is being closed. The next read reports that.
        drop(acknowledge_quickly(&self.stream));
        read
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

impl Connected for Connection {
    type ConnectInfo = CallConnection;

    fn connect_info(&self) -> CallConnection {
        CallConnection {
            tcp: self.stream.connect_info(),
            calls: Arc::clone(&self.calls),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::pin::pin;

    use futures::StreamExt;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::server::KEEP_ALIVE;

    async fn pair() -> (TcpStream, Connection) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let mut incoming = Box::pin(incoming(listener, 1, Arc::default()));
        let (client, connection) = tokio::join!(client, incoming.next());
        (client.unwrap(), connection.unwrap().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_whether_or_not_it_ever_sent_a_byte() {
        for sent in [&b""[..], b"PRI * HTTP/2.0"] {
            let (mut client, mut connection) = pair().await;
            client.write_all(sent).await.unwrap();
            let mut received = Vec::new();
            let error = connection.read_to_end(&mut received).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert_eq!(received, sent);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_answers_pings_stays_open() {
        let (mut client, mut connection) = pair().await;
        for _ in 0..10 {
            let mut answer = pin!(connection.read_u8());
            assert!(futures::poll!(&mut answer).is_pending());
            // A ping is sent after one interval, and answered within the next one.
            tokio::time::advance(2 * KEEP_ALIVE).await;
            assert!(futures::poll!(&mut answer).is_pending());
            client.write_all(b"x").await.unwrap();
            assert_eq!(answer.await.unwrap(), b'x');
        }
    }
}
