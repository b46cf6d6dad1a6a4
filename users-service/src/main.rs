//! Starts the process in the role that it is given.

use clap::Parser;
use users_service::config::Config;
use users_service::startup::{self, Role};

/// User accounts: commands, read models, erasure.
#[derive(Parser)]
#[command(version)]
enum Arguments {
    /// All roles in one process.
    Serve(Config),
    /// POST, GET /{id}, PATCH, DELETE.
    CommandApi(Config),
    /// GET / (the list).
    QueryApi(Config),
    /// The routes of both.
    Api(Config),
    /// From the broker to the read model.
    Projector(Config),
    /// From the event store to the broker.
    Publisher(Config),
    /// Finishes every deletion.
    Eraser(Config),
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (role, config) = match Arguments::parse() {
        Arguments::Serve(config) => (Role::Serve, config),
        Arguments::CommandApi(config) => (Role::CommandApi, config),
        Arguments::QueryApi(config) => (Role::QueryApi, config),
        Arguments::Api(config) => (Role::Api, config),
        Arguments::Projector(config) => (Role::Projector, config),
        Arguments::Publisher(config) => (Role::Publisher, config),
        Arguments::Eraser(config) => (Role::Eraser, config),
    };
    telemetry::init(env!("CARGO_PKG_NAME"))?;
    startup::run(role, &config, web::on_signal()?).await
}
