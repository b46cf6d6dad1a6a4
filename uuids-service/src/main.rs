//! The executable `uuids-service`.

use std::sync::Arc;

use clap::Parser;
use uuids_service::{
    clock::SystemClock,
    config::{Config, RestoredConfig},
    restored,
    startup::Application,
};

/// 64-bit ids, numeric, sortable by time, unique across machines.
#[derive(Parser)]
#[command(version)]
enum Command {
    /// Issues ids over HTTP and RabbitMQ.
    Serve(Config),
    /// Makes every later window begin at a floor or above it. To be run after the event store was restored from a backup, with
    /// every uuids process stopped.
    Restored(RestoredConfig),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let command = Command::parse();
    telemetry::init(env!("CARGO_PKG_NAME"))?;
    match command {
        Command::Serve(config) => {
            let shutdown = web::on_signal()?;
            let application = Application::build(&config, Arc::new(SystemClock))?;
            Box::pin(application.run(shutdown)).await
        }
        Command::Restored(config) => {
            restored::run(&config, &SystemClock).await?;
            tracing::info!(
                floor_ms = config.floor_ms,
                "no window begins before the floor"
            );
            Ok(())
        }
    }
}
