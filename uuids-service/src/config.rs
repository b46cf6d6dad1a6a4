//! The settings of the process.

use std::{net::SocketAddr, path::PathBuf};

use access_tokens::AccessSettings;
use clap::Args;

/// The settings of `uuids-service serve`. URLs can hold passwords, so help does not show their values.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Address to listen on (`UUIDS_BIND`); port 0 takes a free port.
    #[arg(long = "bind", env = "UUIDS_BIND", default_value = "127.0.0.1:6000")]
    pub bind: SocketAddr,

    /// Where the windows are.
    #[command(flatten)]
    pub windows: WindowsConfig,

    /// Broker whose queue `uuids` this process serves (`AMQP_URL`).
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,

    /// Who may call the API.
    #[command(flatten)]
    pub access: AccessSettings,
}

/// Where the windows of time are kept.
#[derive(Debug, Clone, Args)]
pub struct WindowsConfig {
    /// Event store that keeps the windows (`EVENTSTORE_URL`).
    #[arg(
        long,
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        default_value = "esdb://127.0.0.1:2113?tls=false"
    )]
    pub eventstore_url: String,

    /// Folder of the record of this machine's windows (`UUIDS_DATA`). It tells when the event store was restored from an
    /// older backup, so it belongs to no backup of the event store. The processes of one machine may share it.
    #[arg(long, env = "UUIDS_DATA")]
    pub data: PathBuf,
}

/// The settings of `uuids-service restored`.
#[derive(Debug, Clone, Args)]
pub struct RestoredConfig {
    /// No later window begins before this time, in milliseconds since 2015-01-01T00:00:00Z: the greatest `until_ms` in the
    /// files `last-window.json` of all machines.
    #[arg(long = "floor")]
    pub floor_ms: u64,

    /// Where the windows are.
    #[command(flatten)]
    pub windows: WindowsConfig,
}
