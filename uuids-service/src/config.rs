//! What the process is told from outside.

use std::net::SocketAddr;

use clap::Args;

/// The settings of `uuids-service serve`. URLs can hold passwords, so help does not show their values.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where to listen (`UUIDS_BIND`); port 0 takes a free one.
    #[arg(long = "bind", env = "UUIDS_BIND", default_value = "127.0.0.1:6000")]
    pub bind: SocketAddr,

    /// The event store that keeps the windows (`EVENTSTORE_URL`).
    #[arg(
        long,
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        default_value = "esdb://127.0.0.1:2113?tls=false"
    )]
    pub eventstore_url: String,

    /// The broker whose queue `uuids` is served (`AMQP_URL`).
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,
}
