//! The executable `uuids-service`.

use std::sync::Arc;

use clap::Parser;
use uuids_service::{clock::SystemClock, config::Config, startup::Application};

/// 64-bit ids, numeric, sortable by time, unique across machines.
#[derive(Parser)]
#[command(version)]
enum Command {
    /// Issues ids over HTTP and RabbitMQ.
    Serve(Config),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let Command::Serve(config) = Command::parse();
    telemetry::init(env!("CARGO_PKG_NAME"))?;
    let shutdown = web::on_signal()?;
    Application::build(&config, Arc::new(SystemClock))?
        .run(shutdown)
        .await
}
