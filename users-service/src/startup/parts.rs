//! The parts of the roles, built from the configuration.

use crate::clock::Clock;
use crate::command::handler::CommandHandler;
use crate::command::queue::{Attempts, CommandConsumer, CommandSender, Intake, SEALED_COMMANDS};
use crate::config::{CommandsQueue, Config};
use crate::eraser::Eraser;
use crate::erasure::Erasure;
use crate::ids::{self, IdSource, OverBroker, OverHttp};
use crate::integration::publisher::{EventPublisher, Pace};
use crate::privacy::cipher::MessageKey;
use crate::privacy::search_secret::SearchSecret;
use crate::privacy::subject_keys::SubjectKeys;
use crate::projection::current_repair::CurrentRepair;
use crate::projection::host::Host;
use crate::query::api::UserList;
use crate::query::cursor::Cursors;
use crate::read_model::{CurrentGeneration, Directory, Projection, Registry};
use crate::sweeper::Sweeper;
use event_streams::EventStreams;
use jittered_backoff::Backoff;
use messaging::{Broker, QueueKind, RpcClient};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use web::{Importance, Readiness};

/// How often the read model is compared with the log.
const CHECK_EVERY: Duration = Duration::from_secs(10);

/// The numbers of queues of the first generations.
pub(super) const DIRECTORY_PARTITIONS: u32 = 4;
pub(super) const STATISTICS_PARTITIONS: u32 = 1;

/// How often opening a file is attempted. All attempts together take about a second.
const OPENING_ATTEMPTS: u32 = 7;

/// The parts that all roles share.
pub(super) struct Parts {
    pub(super) store: EventStreams,
    pub(super) broker: Broker,
    pub(super) keys: SubjectKeys,
    /// Seals the commands that go through the queue.
    sealed_commands: MessageKey,
}

impl Parts {
    pub(super) async fn build(config: &Config) -> anyhow::Result<Self> {
        let store = EventStreams::connect(&config.servers.eventstore_url)?;
        let broker = Broker::connect(&config.servers.amqp_url, env!("CARGO_PKG_NAME"))?;
        let master = config.data.master_key()?;
        let sealed_commands = master.message_key(SEALED_COMMANDS);
        let databases = config.data.databases()?;
        let open = async || SubjectKeys::open(&databases, master.clone()).await;
        let keys = open_with_retries(open).await?;
        Ok(Self {
            store,
            broker,
            keys,
            sealed_commands,
        })
    }

    pub(super) fn commands(&self, config: &Config) -> anyhow::Result<CommandHandler> {
        let over_broker = OverBroker::new(RpcClient::new(self.broker.clone(), ids::QUEUE));
        let token = config.servers.uuids_token_file.clone();
        let over_http = OverHttp::new(&config.servers.uuids_url, token)?;
        let ids = IdSource::new(vec![Box::new(over_broker), Box::new(over_http)]);
        let secret = config.data.username_secret()?;
        let (store, keys) = (self.store.clone(), self.keys.clone());
        let handler = CommandHandler::new(store, keys, secret, ids);
        let handler = handler.remembering_for(config.commands.remembered_for());
        let handler = handler.snapshot_every(config.commands.snapshot_every.into());
        Ok(handler.in_flight(config.commands.requests_in_flight.into()))
    }

    /// Hands commands over to the queue.
    pub(super) fn command_sender(&self, config: &Config) -> CommandSender {
        let kind = queue_kind(config.commands.commands_queue);
        let key = self.sealed_commands.clone();
        CommandSender::new(self.broker.clone(), kind, key)
    }

    /// Executes the commands of the queue with this handler.
    pub(super) fn command_consumer(
        &self,
        handler: CommandHandler,
        config: &Config,
    ) -> anyhow::Result<CommandConsumer> {
        let key = self.sealed_commands.clone();
        let remembered_for = config.commands.remembered_for();
        let intake = Intake::new(key, remembered_for);
        let intake = intake.accepting_plain(config.accepts_plain_commands());
        let attempts = Attempts::new(config.data.databases()?);
        let kind = queue_kind(config.commands.commands_queue);
        let broker = self.broker.clone();
        Ok(CommandConsumer::new(
            handler,
            broker,
            (intake, attempts),
            kind,
        ))
    }

    pub(super) fn list(
        &self,
        config: &Config,
        current: CurrentGeneration,
    ) -> anyhow::Result<UserList> {
        let cursors = Cursors::new(&config.data.master_key()?, Clock::of_machine());
        let directory = directory(config)?;
        Ok(UserList::new(
            (directory, current),
            self.keys.clone(),
            cursors,
        ))
    }

    /// Repairs the generation of this read model that readers use.
    pub(super) fn current_repair(
        &self,
        current: CurrentGeneration,
        projection: Arc<dyn Projection>,
    ) -> CurrentRepair {
        CurrentRepair::new(current, projection, (self.store.clone(), self.keys.clone()))
    }

    /// Hosts the projectors of a read model with so many queues.
    pub(super) fn host(
        &self,
        config: &Config,
        (projection, partitions): (Arc<dyn Projection>, u32),
    ) -> anyhow::Result<Host> {
        let read_model = (registry(config)?, projection, partitions);
        let parts = (self.store.clone(), self.keys.clone(), self.broker.clone());
        Ok(Host::new(
            read_model,
            parts,
            Clock::of_machine(),
            CHECK_EVERY,
        ))
    }

    pub(super) fn publisher(&self) -> EventPublisher {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        EventPublisher::new(store, keys, self.broker.clone(), Pace::default())
    }

    pub(super) fn eraser(&self) -> Eraser {
        let erasure = Erasure::new(self.store.clone(), self.keys.clone());
        Eraser::new(self.store.clone(), erasure)
    }

    pub(super) fn sweeper(&self, config: &Config) -> Sweeper {
        let pause = Duration::from_secs(config.eraser.sweep_seconds.into());
        Sweeper::new(self.store.clone(), pause)
    }
}

fn queue_kind(queue: CommandsQueue) -> QueueKind {
    match queue {
        CommandsQueue::Classic => QueueKind::Plain,
        CommandsQueue::Quorum => QueueKind::Log,
    }
}

/// The list of generations.
pub(super) fn registry(config: &Config) -> anyhow::Result<Registry> {
    Ok(Registry::new(config.data.databases()?))
}

/// What the directory keeps.
pub(super) fn directory(config: &Config) -> anyhow::Result<Directory> {
    let secret = SearchSecret::of(&config.data.master_key()?);
    Ok(Directory::new(secret))
}

/// Opens a database file, with retries. Roles that start at the same time may all create the file. Then SQLite refuses all
/// but one of them at once, whatever the timeout.
async fn open_with_retries<T, E>(open: impl AsyncFn() -> Result<T, E>) -> Result<T, E> {
    let mut backoff = Backoff::default();
    for _ in 1..OPENING_ATTEMPTS {
        match open().await {
            Ok(opened) => return Ok(opened),
            Err(_) => backoff.pause().await,
        }
    }
    open().await
}

/// Adds a readiness check of a dependency, which runs at each request.
pub(super) fn check<T, F, E>(
    readiness: Readiness,
    (name, importance): (&'static str, Importance),
    part: &T,
    query: impl Fn(T) -> F + Send + Sync + 'static,
) -> Readiness
where
    T: Clone + Send + Sync + 'static,
    F: Future<Output = Result<(), E>> + Send + 'static,
    E: Display,
{
    let part = part.clone();
    readiness.with(importance, name, move || {
        let answer = query(part.clone());
        async move { answer.await.map_err(|error| error.to_string()) }
    })
}
