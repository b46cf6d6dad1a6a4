//! A TCP proxy that a test can close to simulate a broken network.
//!
//! Invariant: the proxy keeps its port until it is dropped, so a closed proxy looks like a server that is down.

use crate::wait;
use anyhow::{Context, Result};
use std::net::SocketAddr;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::AbortHandle;

/// A proxy on its own loopback port; dropping it ends the proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    open: watch::Sender<bool>,
    attempts: watch::Receiver<usize>,
    accepting: AbortHandle,
}

impl Proxy {
    /// Starts a closed proxy to `target`. It accepts connections and closes them at once, until [`Proxy::open`].
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
async fn forward(mut client: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    let Ok(mut server) = TcpStream::connect(target).await else {
        return;
    };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => {}
        _ = open.wait_for(|open| !open) => {}
    }
}
