//! A TCP proxy that a test can close to simulate a broken network, or make hold back answers to simulate a slow server.
//!
//! Invariant: the proxy keeps its port until it is dropped, so a closed proxy looks like a server that is down.

use crate::wait;
use anyhow::{Context, Result};
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A proxy on its own loopback port; dropping it ends the proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    held: watch::Sender<bool>,
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
        let (count, attempts) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|attempts| *attempts += 1);
                if *is_open.borrow() {
                    let (open, held) = (is_open.clone(), is_held.clone());
                    tokio::spawn(forward(client, target, open, held));
                }
            }
        });
        Ok(Self {
            address,
            open,
            held,
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

/// Forwards until either side ends or the proxy closes. Broken connections are intended, so they are not errors.
async fn forward(
    client: TcpStream,
    target: SocketAddr,
    mut open: watch::Receiver<bool>,
    held: watch::Receiver<bool>,
) {
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    tokio::select! {
        _ = copy(&mut from_client, &mut to_server) => {}
        _ = deliver(from_server, to_client, held) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}

/// Copies answers, except while they are held.
async fn deliver(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut held: watch::Receiver<bool>,
) -> io::Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let count = from.read(&mut buffer).await?;
        let released = held.wait_for(|held| !held).await.is_ok();
        if count == 0 || !released {
            return Ok(());
        }
        to.write_all(&buffer[..count]).await?;
    }
}
