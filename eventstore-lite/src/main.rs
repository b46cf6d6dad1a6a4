//! Starts the server and stops it at SIGTERM or SIGINT.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use clap::Parser;
use eventstore_lite::{Config, Server};
use tokio::signal::unix::{SignalKind, signal};

/// An EventStoreDB-compatible server in one binary. Options are named as the real server's.
#[derive(Parser)]
#[command(version, about)]
struct Options {
    /// The address to listen on; whoever reaches it may read and write everything.
    #[arg(long, env = "EVENTSTORE_NODE_IP", default_value = "127.0.0.1")]
    node_ip: IpAddr,
    /// The port for gRPC and HTTP; 0 takes a free one, which the log names.
    #[arg(long, env = "EVENTSTORE_NODE_PORT", default_value_t = 2113)]
    node_port: u16,
    /// The folder of the database.
    #[arg(long, env = "EVENTSTORE_DB", default_value = "eventstore-db")]
    db: PathBuf,
    /// Dangerous: answer before data is on disk. For tests only.
    #[arg(long, env = "EVENTSTORE_UNSAFE_DISABLE_FLUSH_TO_DISK", hide = true)]
    unsafe_disable_flush_to_disk: bool,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    telemetry::init("eventstore-lite")?;
    let options = Options::parse();
    let mut config = Config::new(options.db);
    config.address = SocketAddr::new(options.node_ip, options.node_port);
    config.unsafe_disable_flush_to_disk = options.unsafe_disable_flush_to_disk;
    let (mut terminate, mut interrupt) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let server = Server::start(config).await?;
    tracing::info!(address = %server.address(), "listening");
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping");
    server.shutdown().await;
    Ok(())
}
