//! Starts the process in the role that the arguments give.

use clap::Parser as _;
use users_service::config::Arguments;
use users_service::startup::{self, Role};

#[tokio::main]
pub(crate) async fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if !arguments.print_a_result() {
        telemetry::init(env!("CARGO_PKG_NAME"))?;
    }
    let (role, config) = match arguments {
        Arguments::Token {
            scopes,
            subject,
            hours,
            access,
        } => return startup::print_token(&access, &subject, &scopes, hours),
        Arguments::Replay { user, config } => return startup::replay(&config, user).await,
        Arguments::Parked { command } => return startup::parked(command).await,
        Arguments::Held { command } => return startup::held(command).await,
        Arguments::Rebuild {
            read_model,
            partitions,
            config,
        } => return startup::rebuild(read_model, partitions, &config).await,
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
