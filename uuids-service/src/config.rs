//! The settings of the process.

use std::net::SocketAddr;

use clap::Args;

/// The settings of `uuids-service serve`. URLs can hold passwords, so help does not show their values.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on (`UUIDS_BIND`); port 0 takes a free port.
    #[arg(long = "bind", env = "UUIDS_BIND", default_value = "127.0.0.1:6000")]
    pub bind: SocketAddr,

    /// Event store that keeps the windows (`EVENTSTORE_URL`).
    #[arg(
        long,
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        default_value = "esdb://127.0.0.1:2113?tls=false"
    )]
    pub eventstore_url: String,

    /// Broker whose queue `uuids` this process serves (`AMQP_URL`).
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,
}
