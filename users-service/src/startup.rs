//! The composition root: the only place where stores, broker, roles and routes meet.
//!
//! Invariants: the process listens before its servers are there, and says at `/_readyz` which is missing; it is ready or
//! degraded while its routes can answer, or, without routes, while its loop works; a role that fails is run again, with
//! growing waits, and readiness says why until it works.

mod parked;
mod parts;
mod supervisor;

use crate::command::api as commands;
use crate::command::handler::CommandHandler;
use crate::config::Config;
use crate::domain::UserId;
use crate::query::api::{self as queries, Directory};
use actix_web::web::{Data, ServiceConfig, resource};
pub use parked::parked;
use parts::{Parts, check};
use std::net::SocketAddr;
use std::sync::Arc;
use supervisor::Supervisor;
use tokio_util::sync::CancellationToken;
use web::{Importance, Readiness, Server};

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All of the below.
    Serve,
    /// The routes that change users, and `GET /{id}`.
    CommandApi,
    /// The list.
    QueryApi,
    /// The routes of both.
    Api,
    /// From the broker to the read model.
    Projector,
    /// From the event store to the broker.
    Publisher,
    /// Finishes every deletion.
    Eraser,
}

impl Role {
    fn commands(self) -> bool {
        matches!(self, Self::Serve | Self::Api | Self::CommandApi)
    }

    fn queries(self) -> bool {
        matches!(self, Self::Serve | Self::Api | Self::QueryApi)
    }

    fn projects(self) -> bool {
        matches!(self, Self::Serve | Self::Projector)
    }

    fn publishes(self) -> bool {
        matches!(self, Self::Serve | Self::Publisher)
    }

    fn erases(self) -> bool {
        matches!(self, Self::Serve | Self::Eraser)
    }

    fn has_routes(self) -> bool {
        self.commands() || self.queries()
    }

    /// The importance of loops without routes, and of what they need.
    fn background(self) -> Importance {
        if self.has_routes() {
            Importance::Useful
        } else {
            Importance::Needed
        }
    }

    /// The importance of the list's read model: commands answer without it.
    fn list(self) -> Importance {
        if self.commands() {
            Importance::Useful
        } else {
            Importance::Needed
        }
    }

    /// The importance of the event store. The list answers without it, and the projector needs it for gaps only.
    fn store(self) -> Option<Importance> {
        match self {
            Self::QueryApi => None,
            Self::Projector => Some(Importance::Useful),
            Self::Serve | Self::Api | Self::CommandApi | Self::Publisher | Self::Eraser => {
                Some(Importance::Needed)
            }
        }
    }

    fn address(self, config: &Config) -> SocketAddr {
        if self.has_routes() {
            config.bind.users
        } else {
            config.bind.health
        }
    }
}

/// Runs the role until `shutdown`.
///
/// # Errors
/// When the configuration is wrong, the address is taken, or a file cannot be opened. That a server is away is none.
pub async fn run(role: Role, config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    Application::build(role, config).await?.run(shutdown).await
}

/// Lifts the hold of a user in the read model and applies what the log has, once.
///
/// # Errors
/// When the configuration is wrong, or a server is away.
pub async fn replay(config: &Config, user: UserId) -> anyhow::Result<()> {
    let parts = Parts::build(config).await?;
    let standing = parts.repair(config).await?.catch_up(user, true).await?;
    tracing::info!(?standing, "replayed");
    Ok(())
}

/// A process that has its address, and is on its way to its servers.
pub struct Application {
    server: Server,
    supervisor: Supervisor,
    commands: Option<CommandHandler>,
    directory: Option<Directory>,
    shutdown: CancellationToken,
}

impl Application {
    /// Takes the address, opens the files, and begins to run the roles that have no routes.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn build(role: Role, config: &Config) -> anyhow::Result<Self> {
        let parts = Parts::build(config).await?;
        let server = Server::bind(role.address(config))?;
        let commands = role
            .commands()
            .then(|| parts.commands(config))
            .transpose()?;
        let directory = if role.queries() {
            Some(parts.directory(config).await?)
        } else {
            None
        };
        let shutdown = CancellationToken::new();
        let readiness = readiness(role, &parts, (commands.as_ref(), directory.as_ref()));
        let mut supervisor = Supervisor::new(readiness, role.background(), shutdown.clone());
        supervise(role, &parts, config, &mut supervisor).await?;
        Ok(Self {
            server,
            supervisor,
            commands,
            directory,
            shutdown,
        })
    }

    /// The address taken, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Runs until `shutdown`, then lets requests in flight end and roles stop where they can go on later.
    ///
    /// # Errors
    /// When the operating system takes the listener away.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (readiness, roles) = self.supervisor.supervised();
        let routes = routes(self.commands, self.directory);
        let served = self.server.run(readiness, routes, shutdown).await;
        self.shutdown.cancel();
        roles.join_all().await;
        Ok(served?)
    }
}

/// Starts the roles that have no routes.
async fn supervise(
    role: Role,
    parts: &Parts,
    config: &Config,
    supervisor: &mut Supervisor,
) -> anyhow::Result<()> {
    if role.publishes() {
        let publisher = Arc::new(parts.publisher());
        supervisor.report("parked streams", publisher.parked());
        supervisor.run("publisher", move |state, shutdown| {
            let publisher = Arc::clone(&publisher);
            async move { publisher.run(&state, &shutdown).await }
        });
    }
    if role.projects() {
        let projector = Arc::new(parts.projector(config).await?);
        supervisor.report("completeness", projector.completeness());
        supervisor.run("projector", move |state, shutdown| {
            let projector = Arc::clone(&projector);
            async move { projector.run(&state, &shutdown).await }
        });
    }
    if role.erases() {
        let eraser = Arc::new(parts.eraser());
        supervisor.run("eraser", move |state, shutdown| {
            let eraser = Arc::clone(&eraser);
            async move { eraser.run(&state, &shutdown).await }
        });
    }
    Ok(())
}

/// What the process needs for its work, and what it uses for a part of it. A process with command routes needs what most of
/// them answer from; one without routes needs what its loop needs.
fn readiness(
    role: Role,
    parts: &Parts,
    (commands, directory): (Option<&CommandHandler>, Option<&Directory>),
) -> Readiness {
    let mut readiness = Readiness::new();
    if let Some(importance) = role.store() {
        let store = ("event store", importance);
        readiness = check(readiness, store, &parts.store, |store| async move {
            store.check().await
        });
    }
    let keys = ("subject keys", Importance::Needed);
    readiness = check(readiness, keys, &parts.keys, |keys| async move {
        keys.check().await
    });
    if role.publishes() || role.projects() {
        let broker = ("broker", role.background());
        readiness = check(readiness, broker, &parts.broker, |broker| async move {
            broker.check().await
        });
    }
    if let Some(commands) = commands {
        // Only POST needs an id.
        let ids = ("ids", Importance::Useful);
        readiness = check(readiness, ids, commands.ids(), |ids| async move {
            ids.next().await.map(drop)
        });
    }
    if let Some(directory) = directory {
        let read_model = ("read model", role.list());
        let model = &directory.read_model;
        readiness = check(readiness, read_model, model, |model| async move {
            model.check().await
        });
    }
    readiness
}

/// The routes of a role; one resource has the routes of both sides, so that a wrong method is told as such.
fn routes(
    handler: Option<CommandHandler>,
    directory: Option<Directory>,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    move |config| {
        let mut users = resource("/");
        if let Some(handler) = &handler {
            users = commands::create_at(users);
            config.app_data(Data::new(handler.clone()));
        }
        if let Some(directory) = &directory {
            users = queries::list_at(users);
            config.app_data(Data::new(directory.clone()));
        }
        if handler.is_some() || directory.is_some() {
            config.service(users);
        }
        if handler.is_some() {
            commands::one_user(config);
        }
    }
}
