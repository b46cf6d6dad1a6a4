//! Starts the process in the role that it is given.

use clap::Parser;
use users_service::config::Config;
use users_service::domain::UserId;
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
    /// Re-reads one user into the read model, and ends.
    Replay {
        /// The user's id.
        user: UserId,
        #[command(flatten)]
        config: Config,
    },
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    telemetry::init(env!("CARGO_PKG_NAME"))?;
    let (role, config) = match arguments {
        Arguments::Replay { user, config } => return startup::replay(&config, user).await,
        Arguments::Serve(config) => (Role::Serve, config),
        Arguments::CommandApi(config) => (Role::CommandApi, config),
        Arguments::QueryApi(config) => (Role::QueryApi, config),
        Arguments::Api(config) => (Role::Api, config),
        Arguments::Projector(config) => (Role::Projector, config),
        Arguments::Publisher(config) => (Role::Publisher, config),
        Arguments::Eraser(config) => (Role::Eraser, config),
    };
    startup::run(role, &config, web::on_signal()?).await
}
