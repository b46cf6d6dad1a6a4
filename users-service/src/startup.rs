//! The composition root: the only place where stores, broker, roles and routes meet.
//!
//! Invariants: the process listens before its servers are there, and says at `/_readyz` which is missing; a role that
//! fails is run again, with growing waits, and readiness says why until it works.

mod supervisor;

use crate::command::api;
use crate::command::handler::CommandHandler;
use crate::config::Config;
use crate::ids::{IdSource, OverBroker, OverHttp};
use crate::privacy::erasure::{Eraser, Erasure};
use crate::privacy::subject_keys::SubjectKeys;
use actix_web::web::{Data, ServiceConfig, resource};
use event_streams::EventStreams;
use messaging::{Broker, RpcClient};
use std::net::SocketAddr;
use std::sync::Arc;
use supervisor::Supervisor;
use tokio_util::sync::CancellationToken;
use web::{Readiness, Server};

/// The queue on which ids are asked for.
const IDS: &str = "uuids";

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
}

/// Runs the role until `shutdown`.
///
/// # Errors
/// When the configuration is wrong, the address is taken, or the key store cannot be opened. That a server is away is none.
pub async fn run(role: Role, config: &Config, shutdown: CancellationToken) -> anyhow::Result<()> {
    Application::build(role, config).await?.run(shutdown).await
}

/// A process that has its address, and is on its way to its servers.
pub struct Application {
    role: Role,
    server: Server,
    parts: Parts,
    commands: Option<CommandHandler>,
}

/// What the roles share.
#[derive(Clone)]
struct Parts {
    store: EventStreams,
    broker: Broker,
    keys: SubjectKeys,
}

impl Application {
    /// Takes the address and opens the key store.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn build(role: Role, config: &Config) -> anyhow::Result<Self> {
        let parts = Parts::build(config).await?;
        let listens = role.commands() || role.queries();
        let address = if listens {
            config.bind.users
        } else {
            config.bind.health
        };
        let commands = role
            .commands()
            .then(|| parts.commands(config))
            .transpose()?;
        Ok(Self {
            role,
            server: Server::bind(address)?,
            parts,
            commands,
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
        let mut supervisor = Supervisor::new(self.readiness(), shutdown.clone());
        if self.role.erases() {
            let erasure = Erasure::new(self.parts.store.clone(), self.parts.keys.clone());
            let eraser = Arc::new(Eraser::new(self.parts.store.clone(), erasure));
            supervisor.run("eraser", move |state, shutdown| {
                let eraser = Arc::clone(&eraser);
                async move { eraser.run(&state, &shutdown).await }
            });
        }
        let (readiness, roles) = supervisor.supervised();
        let routes = routes(self.commands.clone());
        let served = self.server.run(readiness, routes, shutdown.clone()).await;
        shutdown.cancel();
        roles.join_all().await;
        Ok(served?)
    }

    fn readiness(&self) -> Readiness {
        let Parts {
            store,
            broker,
            keys,
        } = self.parts.clone();
        let mut readiness = Readiness::new()
            .with("event store", move || {
                let store = store.clone();
                async move { store.check().await.map_err(|error| error.to_string()) }
            })
            .with("subject keys", move || {
                let keys = keys.clone();
                async move { keys.check().await.map_err(|error| error.to_string()) }
            });
        if self.role.publishes() || self.role.projects() {
            readiness = readiness.with("broker", move || {
                let broker = broker.clone();
                async move { broker.check().await.map_err(|error| error.to_string()) }
            });
        }
        match &self.commands {
            Some(commands) => {
                let ids = commands.ids().clone();
                readiness.with("ids", move || {
                    let ids = ids.clone();
                    async move {
                        ids.next()
                            .await
                            .map(drop)
                            .map_err(|error| error.to_string())
                    }
                })
            }
            None => readiness,
        }
    }
}

impl Parts {
    async fn build(config: &Config) -> anyhow::Result<Self> {
        // The store first: its client must be the one that installs the TLS provider.
        let store = EventStreams::connect(&config.servers.eventstore_url)?;
        let broker = Broker::connect(&config.servers.amqp_url, env!("CARGO_PKG_NAME"))?;
        let keys = config.data.folder()?.join("keys.db");
        let keys = SubjectKeys::open(&keys, config.data.master_key()?).await?;
        Ok(Self {
            store,
            broker,
            keys,
        })
    }

    fn commands(&self, config: &Config) -> anyhow::Result<CommandHandler> {
        let over_broker = OverBroker::new(RpcClient::new(self.broker.clone(), IDS));
        let over_http = OverHttp::new(&config.servers.uuids_url)?;
        let ids = IdSource::new(vec![Box::new(over_broker), Box::new(over_http)]);
        let secret = config.data.username_secret()?;
        let (store, keys) = (self.store.clone(), self.keys.clone());
        Ok(CommandHandler::new(store, keys, secret, ids))
    }
}

/// The routes of a role; one resource has the routes of both sides, so that a wrong method is told as such.
fn routes(
    commands: Option<CommandHandler>,
) -> impl Fn(&mut ServiceConfig) + Clone + Send + 'static {
    move |config| {
        let mut users = resource("/");
        if let Some(commands) = &commands {
            users = api::create_at(users);
            config.app_data(Data::new(commands.clone()));
        }
        config.service(users);
        if commands.is_some() {
            api::one_user(config);
        }
    }
}
