//! A TCP proxy whose line can be cut: what a test breaks instead of the network.
//!
//! Invariant: it holds its port all its life, so that a closed proxy is a server that is not there yet.

use crate::wait;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A proxy on a loopback port of its own; ends with its value.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    attempts: watch::Receiver<usize>,
    accepting: AbortHandle,
}

impl Proxy {
    /// A closed proxy to `target`: connections are accepted and closed at once, until [`Proxy::open`].
    pub async fn closed(target: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (open, is_open) = watch::channel(false);
        let (count, attempts) = watch::channel(0);
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.send_modify(|attempts| *attempts += 1);
                if *is_open.borrow() {
                    tokio::spawn(forward(client, target, is_open.clone()));
                }
            }
        });
        Ok(Self {
            address,
            open,
            attempts,
            accepting: accepting.abort_handle(),
        })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Forwards connections from now on.
    pub fn open(&self) {
        self.open.send_replace(true);
    }

    /// Breaks all connections, and closes new ones at once.
    pub fn close(&self) {
        self.open.send_replace(false);
    }

    /// Returns when this many connections were tried, counted from the proxy's start.
    pub async fn attempts(&self, at_least: usize) -> Result<()> {
        let mut attempts = self.attempts.clone();
        let enough = attempts.wait_for(|count| *count >= at_least);
        tokio::time::timeout(wait::DEADLINE, enough)
            .await
            .with_context(|| format!("never tried {at_least} times"))??;
        Ok(())
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.close();
        self.accepting.abort();
    }
}

/// Ends when either side does or the proxy closes; a broken line is what a proxy is for, so no error.
async fn forward(mut client: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
