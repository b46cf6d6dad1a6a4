//! The composition root: the only place that connects stores, broker, roles and routes.
//!
//! Invariants:
//! - The process listens before its servers are available, and `/_readyz` names the missing ones.
//! - The process is ready or degraded while its routes can answer, or, if it has no routes, while its loop works.
//! - A role that fails is run again after growing pauses, and readiness shows the reason until it works.

mod held;
mod hosted_read_models;
mod operator_access;
mod parked;
mod parts;
mod printable;
mod rebuild;
mod supervisor;
mod token;

use crate::clock::Clock;
use crate::command::api;
use crate::command::handler::CommandHandler;
use crate::command::queue::CommandSender;
use crate::config::Config;
use crate::contracts::api::{self as contracts, Contracts};
use crate::domain::UserId;
use crate::feed::Feed;
use crate::feed::api::{self as feed_api, FeedRoute};
use crate::query::api::{UserList, list_at};
use crate::query::statistics_route::StatisticsRoute;
use actix_web::web::{Data, ServiceConfig, resource};
pub use held::held;
use hosted_read_models::HostedReadModels;
use operator_access::OperatorAccess;
pub use parked::parked;
use parts::{Parts, check};
pub use rebuild::rebuild;
use std::net::SocketAddr;
use std::sync::Arc;
use supervisor::Supervisor;
pub use token::print_token;
use tokio_util::sync::CancellationToken;
use web::{Importance, Readiness, Server};

/// The role of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// All other roles.
    Serve,
    /// Serves the routes that change users, and `GET /{id}`.
    CommandApi,
    /// Serves the list.
    QueryApi,
    /// Serves the routes of both APIs.
    Api,
    /// Projects messages from the broker into the read model.
    Projector,
    /// Publishes events from the event store to the broker.
    Publisher,
    /// Finishes every deletion, and sweeps the reservations of names.
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

    /// The importance of background loops and of their dependencies.
    fn background(self) -> Importance {
        if self.has_routes() {
            Importance::Useful
        } else {
            Importance::Needed
        }
    }

    /// The importance of the read model. Commands do not need it.
    fn list(self) -> Importance {
        if self.commands() {
            Importance::Useful
        } else {
            Importance::Needed
        }
    }

    /// The importance of the event store. The list does not need it, and the projector needs it only to fill gaps.
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
/// If the configuration is wrong, the address is in use, or a file cannot be opened. An unavailable server is not an error.
pub async fn run(role: Role, config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    Application::build(role, config).await?.run(shutdown).await
}

/// Lifts the hold of a user in the read model, and applies the user's events from the log.
///
/// # Errors
/// If the configuration is wrong, or a server is unavailable.
pub async fn replay(config: &Config, user: UserId) -> anyhow::Result<()> {
    let parts = Parts::build(config).await?;
    let read_models = HostedReadModels::new(config)?;
    read_models.directory.look().await?;
    let repair = read_models.directory.repair(&parts).repair()?;
    let standing = repair.catch_up(user, true).await?;
    tracing::info!(?standing, "the user was replayed");
    Ok(())
}

/// A process that listens, and may still be connecting to its servers.
pub struct Application {
    server: Server,
    supervisor: Supervisor,
    commands: Option<Commands>,
    queries: Option<Queries>,
    feed: Option<Feed>,
    operators: OperatorAccess,
    shutdown: CancellationToken,
}

/// What the routes of queries need.
#[derive(Clone)]
struct Queries {
    list: UserList,
    statistics: StatisticsRoute,
}

/// What the routes of commands need.
#[derive(Clone)]
struct Commands {
    handler: CommandHandler,
    sender: Data<CommandSender>,
}

impl Queries {
    fn new(parts: &Parts, config: &Config, read_models: &HostedReadModels) -> anyhow::Result<Self> {
        let current = read_models.statistics.current();
        Ok(Self {
            list: parts.list(config, read_models.directory.current())?,
            statistics: StatisticsRoute::new(current, Clock::of_machine()),
        })
    }
}

impl Application {
    /// Binds the address, opens the files, and starts the roles that have no routes.
    ///
    /// # Errors
    /// As for [`run`].
    pub async fn build(role: Role, config: &Config) -> anyhow::Result<Self> {
        let parts = Parts::build(config).await?;
        let address = role.address(config);
        if role.has_routes() {
            config.access.check(address)?;
        }
        let verifier = config.access.verifier()?;
        let server = Server::bind(address)?.admitting(verifier.clone());
        let commands = role
            .commands()
            .then(|| {
                anyhow::Ok(Commands {
                    handler: parts.commands(config)?,
                    sender: Data::new(parts.command_sender(config)),
                })
            })
            .transpose()?;
        let read_models = HostedReadModels::new(config)?;
        let queries = role.queries();
        let queries = queries.then(|| Queries::new(&parts, config, &read_models));
        let queries = queries.transpose()?;
        let feed = role.queries().then(|| Feed::new(parts.store.clone()));
        let reads = role.queries() || role.projects();
        let repairs = reads.then(|| read_models.repairs(&parts));
        let operators = OperatorAccess::of((role, server.address()), &parts, config, repairs)?;
        let shutdown = CancellationToken::new();
        let handler = commands.as_ref().map(|commands| &commands.handler);
        let mut readiness = readiness(role, &parts, (handler, queries.as_ref()));
        if let Some(verifier) = verifier.filter(|_| role.has_routes()) {
            let keys = ("token keys", Importance::Needed);
            readiness = check(readiness, keys, &verifier, |verifier| async move {
                verifier.check().await
            });
        }
        let mut supervisor = Supervisor::new(readiness, role.background(), shutdown.clone());
        supervise((role, handler), &parts, config, &mut supervisor)?;
        if reads {
            read_models.follow(&mut supervisor).await;
        }
        if role.projects() {
            read_models.project(&parts, config, &mut supervisor)?;
        }
        if let Some(feed) = feed.clone() {
            follow_marks(feed, &mut supervisor);
        }
        Ok(Self {
            server,
            supervisor,
            commands,
            queries,
            feed,
            operators,
            shutdown,
        })
    }

    /// The bound address, with its real port.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.server.address()
    }

    /// Runs until `shutdown`. Then it finishes the requests in flight and stops the roles cleanly.
    ///
    /// # Errors
    /// If the server fails.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let (readiness, roles) = self.supervisor.supervised();
        let feed = self.feed.map(|feed| FeedRoute::new(feed, shutdown.clone()));
        let routes = routes((self.commands, self.queries, feed), self.operators);
        let served = self.server.run(readiness, routes, shutdown).await;
        self.shutdown.cancel();
        roles.join_all().await;
        Ok(served?)
    }
}

/// Lets the feed follow the publisher's mark.
fn follow_marks(feed: Feed, supervisor: &mut Supervisor) {
    supervisor.run_as(
        Importance::Useful,
        "feed of events",
        move |state, shutdown| {
            let feed = feed.clone();
            async move { feed.run(&state, &shutdown).await }
        },
    );
}

/// Starts the roles that have no routes, and the consumer of commands.
fn supervise(
    (role, handler): (Role, Option<&CommandHandler>),
    parts: &Parts,
    config: &Config,
    supervisor: &mut Supervisor,
) -> anyhow::Result<()> {
    if let Some(handler) = handler {
        let consumer = parts.command_consumer(handler.clone(), config)?;
        let consumer = Arc::new(consumer);
        supervisor.run("commands over the queue", move |state, shutdown| {
            let consumer = Arc::clone(&consumer);
            async move { consumer.run(&state, &shutdown).await }
        });
    }
    if role.publishes() {
        let publisher = Arc::new(parts.publisher());
        supervisor.report("parked streams", publisher.parked());
        supervisor.run("publisher", move |state, shutdown| {
            let publisher = Arc::clone(&publisher);
            async move { publisher.run(&state, &shutdown).await }
        });
    }
    if role.erases() {
        let eraser = Arc::new(parts.eraser());
        supervisor.run("eraser", move |state, shutdown| {
            let eraser = Arc::clone(&eraser);
            async move { eraser.run(&state, &shutdown).await }
        });
        let sweeper = parts.sweeper(config);
        supervisor.run_as(Importance::Useful, "sweep", move |state, shutdown| {
            let sweeper = sweeper.clone();
            async move { sweeper.run(&state, &shutdown).await }
        });
    }
    Ok(())
}

/// The readiness checks of the role. A dependency is needed if most routes, or the only loop, of the process depend on it.
/// Other dependencies are useful: without them the process is degraded.
fn readiness(
    role: Role,
    parts: &Parts,
    (commands, queries): (Option<&CommandHandler>, Option<&Queries>),
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
        // Only POST needs ids.
        let ids = ("ids", Importance::Useful);
        readiness = check(readiness, ids, commands.ids(), |ids| async move {
            ids.next().await.map(drop)
        });
        let capacity = ("capacity", Importance::Useful);
        readiness = check(readiness, capacity, commands, |commands| async move {
            commands.check_capacity()
        });
    }
    if let Some(Queries { list, statistics }) = queries {
        let read_model = ("read model", role.list());
        let current = &list.current;
        readiness = check(readiness, read_model, current, |current| async move {
            current.check().await
        });
        let read_model = ("statistics", Importance::Useful);
        let current = statistics.current();
        readiness = check(readiness, read_model, current, |current| async move {
            current.check().await
        });
        let capacity = ("capacity for the list", Importance::Useful);
        readiness = check(readiness, capacity, list, |list| async move {
            list.check_capacity()
        });
    }
    readiness
}

/// The routes of a role. One resource has the routes of both APIs, so that a wrong method is answered correctly.
fn routes(
    (commands, queries, feed): (Option<Commands>, Option<Queries>, Option<FeedRoute>),
    operators: OperatorAccess,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    let published = Data::new(Contracts::generate());
    move |config| {
        if commands.is_some() || queries.is_some() {
            config.app_data(Data::clone(&published));
            contracts::contracts(config);
        }
        let mut users = resource("/");
        if let Some(Commands { handler, sender }) = &commands {
            users = api::create_at(users);
            config.app_data(Data::new(handler.clone()));
            config.app_data(Data::clone(sender));
        }
        if let Some(Queries { list, statistics }) = &queries {
            users = list_at(users);
            statistics.add_to(config);
            config.app_data(Data::new(list.clone()));
        }
        if commands.is_some() || queries.is_some() {
            config.service(users);
        }
        if let Some(feed) = &feed {
            config
                .app_data(Data::new(feed.clone()))
                .configure(feed_api::events);
        }
        if commands.is_some() {
            api::one_user(config);
        }
        operators.add_to(config);
    }
}
