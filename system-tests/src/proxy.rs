//! A TCP proxy that a test can close to simulate a broken network, make hold back answers to simulate a slow server, or make
//! stall, crawl or break off in the middle of a message.
//!
//! Invariant: the proxy keeps its port until it is dropped, so a closed proxy looks like a server that is down.

use crate::wait;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::interval;

/// So many bytes of a message are forwarded before its connection breaks. The header of a frame of AMQP has seven.
const CUT_AFTER: usize = 5;
/// How often a slow line forwards something.
const TICK: Duration = Duration::from_millis(50);

/// How bytes are forwarded, in both directions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Line {
    /// At once.
    Free,
    /// Not at all. Connections stay.
    Stalled,
    /// So many bytes a second for each connection and direction.
    Slow(u32),
    /// The next bytes of a client are cut after a few, and their connection ends. Connections that send nothing stay.
    CutRequests,
    /// The same for bytes of the server.
    CutAnswers,
}

/// A proxy on its own loopback port; dropping it ends the proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    held: watch::Sender<bool>,
    line: watch::Sender<Line>,
    attempts: watch::Receiver<usize>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts a closed proxy to `target`. It accepts connections and closes them at once, until [`Proxy::open`].
    pub async fn closed(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, is_open) = watch::channel(false);
        let (held, is_held) = watch::channel(false);
        let (line, line_now) = watch::channel(Line::Free);
        let (count, attempts) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|attempts| *attempts += 1);
                if *is_open.borrow() {
                    let gates = (is_open.clone(), is_held.clone(), line_now.clone());
                    tokio::spawn(forward(client, target, gates));
                }
            }
        });
        Ok(Self {
            address,
            open,
            held,
            line,
            attempts,
            accepting: accepting.abort_handle(),
        })
    }

    /// The address to which clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards connections from now on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Breaks all connections and closes new ones at once.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Holds back everything that the server sends from now on, until [`Proxy::release`].
    pub fn hold(&self) {
        self.held.send_replace(true);
    }

    /// Delivers what was held back.
    pub fn release(&self) {
        self.held.send_replace(false);
    }

    /// Forwards in this way from now on.
    pub fn set_line(&self, line: Line) {
        self.line.send_replace(line);
    }

    /// The number of connections since the proxy's start.
    #[must_use]
    pub fn connections(&self) -> usize {
        *self.attempts.borrow()
    }

    /// Waits until clients have tried to connect this many times since the proxy's start.
    pub async fn attempts(&self, at_least: usize) -> Result<()> {
        let mut attempts = self.attempts.clone();
        let enough = attempts.wait_for(|count| *count >= at_least);
        tokio::time::timeout(wait::DEADLINE, enough)
            .await
            .with_context(|| format!("clients did not try to connect {at_least} times"))??;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
        self.accepting.abort();
    }
}

type Gates = (
    watch::Receiver<bool>,
    watch::Receiver<bool>,
    watch::Receiver<Line>,
);

/// Forwards until either side ends or the proxy closes. Broken connections are intended, so they are not errors.
async fn forward(client: TcpStream, target: SocketAddr, (mut open, held, line): Gates) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    // A connection that is gone already fails when it is read.
    for stream in [&client, &server] {
        let _ = stream.set_nodelay(true);
    }
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let (_hold, never_held) = watch::channel(false);
    tokio::select! {
        _ = deliver(from_client, to_server, never_held, (line.clone(), Line::CutRequests)) => {}
        _ = deliver(from_server, to_client, held, (line, Line::CutAnswers)) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

/// Copies in one direction, except while it is held. `cut` is the state of the line that cuts this direction.
async fn deliver(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut held: watch::Receiver<bool>,
    (mut line, cut): (watch::Receiver<Line>, Line),
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let released = held.wait_for(|held| !held).await.is_ok();
        let moves = line.wait_for(|line| *line != Line::Stalled).await.is_ok();
        let way = *line.borrow();
        if count == 0 || !released || !moves {
            return Ok(());
        }
        let bytes = &buffer[..count];
        match way {
            way if way == cut => return to.write_all(&bytes[..count.min(CUT_AFTER)]).await,
            Line::Slow(rate) => crawl(bytes, &mut to, (rate, &line)).await?,
            Line::Free | Line::Stalled | Line::CutRequests | Line::CutAnswers => {
                to.write_all(bytes).await?;
            }
        }
    }
}

/// Copies at this rate as long as the line is slow.
async fn crawl(
    bytes: &[u8],
    to: &mut OwnedWriteHalf,
    (rate, line): (u32, &watch::Receiver<Line>),
) -> io::Result<()> {
    let ticks = u32::try_from(Duration::from_secs(1).as_millis() / TICK.as_millis()).unwrap_or(1);
    let piece = usize::try_from(rate / ticks).unwrap_or(1).max(1);
    let mut tick = interval(TICK);
    for piece in bytes.chunks(piece) {
        if matches!(*line.borrow(), Line::Slow(_)) {
            tick.tick().await;
        }
        to.write_all(piece).await?;
    }
    Ok(())
}
