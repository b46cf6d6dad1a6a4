//! A virtual host of a real broker for each test, and roles that use it.

use crate::bus::directory::{PARTITIONS, queue};
use crate::support::{App, MASTER, master, until};
use event_streams::{Position, RecordedEvent};
use messaging::{
    Broker, Consumer, Delivery, Incoming, Message, Publisher as Sender, QueueKind, Topology,
};
use private_broker::{PrivateBroker, as_account};
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::clock::Clock;
use users_service::command::handler::CommandHandler;
use users_service::command::queue::{
    Attempts, COMMANDS, CommandConsumer, CommandSender, Intake, SEALED_COMMANDS, topology,
};
use users_service::database::Databases;
use users_service::domain::NameField;
use users_service::integration::consumer::{
    ReaderQueues, dead_letter_queue, published as published_topology,
};
use users_service::integration::mapping::to_messages;
use users_service::integration::message::IntegrationEvent;
use users_service::integration::publisher::{EventPublisher, Pace, published_up_to};
use users_service::privacy::cipher::{MasterKey, MessageKey};
use users_service::privacy::search_secret::SearchSecret;
use users_service::projection::current_repair::CurrentRepair;
use users_service::projection::host::Host;
use users_service::projection::projector::Projector;
use users_service::projection::repair::Repair;
use users_service::projection::view::View;
use users_service::query::api::UserList;
use users_service::query::cursor::Cursors;
use users_service::read_model::{
    CurrentGeneration, Directory, Generation, ListedUser, PageRequest, Registry, Statistics,
};

/// A fast pace for tests. A standby still waits for several checkpoints.
pub(crate) const PACE: Pace = Pace {
    checkpoint: Duration::from_millis(20),
    takeover: Duration::from_millis(400),
    retry: Duration::from_millis(640),
};

/// The queues of the directory.
pub(crate) mod directory {
    use messaging::Topology;
    use users_service::integration::consumer::ReaderQueues;

    pub(crate) const PARTITIONS: usize = 4;

    pub(crate) const QUEUES: ReaderQueues = ReaderQueues {
        read_model: "directory",
        generation: 1,
        partitions: 4,
    };

    pub(crate) fn topology() -> Topology {
        QUEUES.topology()
    }

    pub(crate) fn queue(partition: usize) -> String {
        QUEUES.queue(u32::try_from(partition).unwrap())
    }
}

/// The queue of the statistics.
pub(crate) const STATISTICS: ReaderQueues = ReaderQueues {
    read_model: "statistics",
    generation: 1,
    partitions: 1,
};

/// The statistics, and what writes them.
pub(crate) async fn statistics(databases: &Databases) -> (Generation, View) {
    let generation = Generation::open(databases, &Statistics, (1, 1)).await;
    let generation = generation.unwrap();
    let view = View::new(generation.clone(), Arc::new(Statistics));
    (generation, view)
}

/// A clock that tests move.
#[derive(Clone, Default)]
pub(crate) struct TestClock(Arc<AtomicU64>);

impl TestClock {
    pub(crate) fn clock(&self) -> Clock {
        let now = Arc::clone(&self.0);
        Clock::new(move || now.load(Ordering::SeqCst))
    }

    pub(crate) fn advance(&self, by: Duration) {
        let by = u64::try_from(by.as_millis()).unwrap();
        self.0.fetch_add(by, Ordering::SeqCst);
    }
}

/// A virtual host. Each role connects with its own account, and tests with one that may do everything.
pub(crate) struct Bus {
    pub(crate) broker: Broker,
    url: String,
    node: &'static PrivateBroker,
    vhost: String,
}

/// A role that runs in the background, as under the supervisor.
pub(crate) struct Role {
    pub(crate) state: watch::Receiver<Result<(), String>>,
    /// The streams that a publisher has parked.
    parked: watch::Receiver<Result<(), String>>,
    /// The messages that a projector has lost.
    deliveries: watch::Receiver<Result<(), String>>,
    task: JoinHandle<()>,
    shutdown: Option<DropGuard>,
}

impl Role {
    fn run<F, R>(role: R) -> Self
    where
        R: Fn(Arc<watch::Sender<Result<(), String>>>, CancellationToken) -> F + Send + 'static,
        F: Future<Output = anyhow::Result<()>> + Send,
    {
        let (sender, state) = watch::channel(Err("starting".to_owned()));
        let sender = Arc::new(sender);
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        let task = tokio::spawn(async move {
            while let Err(error) = role(Arc::clone(&sender), stop.clone()).await {
                let _ = sender.send_replace(Err(format!("{error:#}")));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        Self {
            state,
            parked: watch::channel(Ok(())).1,
            deliveries: watch::channel(Ok(())).1,
            task,
            shutdown: Some(shutdown.drop_guard()),
        }
    }

    /// Stops the role at once, as a kill would.
    pub(crate) async fn kill(mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
        self.shutdown.take();
    }

    /// Stops the role cleanly, as a signal would.
    pub(crate) async fn stop(mut self) {
        self.shutdown.take();
        self.task.await.unwrap();
    }

    /// Waits until the role is healthy.
    pub(crate) async fn ready(&self) {
        self.until_health("the role is healthy", Result::is_ok)
            .await;
    }

    /// Waits until the role is unhealthy, with this text in the reason.
    pub(crate) async fn unhealthy(&self, text: &str) {
        self.until_health(text, |state| {
            state.as_ref().is_err_and(|why| why.contains(text))
        })
        .await;
    }

    async fn until_health(&self, what: &str, holds: impl Fn(&Result<(), String>) -> bool) {
        until(what, async || holds(&self.state.borrow()).then_some(())).await;
    }

    /// Waits until the role is healthy and reports parked streams, with this text.
    pub(crate) async fn parks(&self, text: &str) {
        self.ready().await;
        let named = |parked: &Result<(), String>| {
            parked.as_ref().is_err_and(|parked| parked.contains(text))
        };
        until(text, async || named(&self.parked.borrow()).then_some(())).await;
    }

    /// Waits until the projector reports lost messages, with this text.
    pub(crate) async fn loses(&self, text: &str) {
        until(text, async || {
            let deliveries = self.deliveries.borrow();
            let named = deliveries.as_ref().is_err_and(|lost| lost.contains(text));
            named.then_some(())
        })
        .await;
    }

    pub(crate) async fn loses_nothing(&self) {
        until("no message is lost", async || {
            self.deliveries.borrow().is_ok().then_some(())
        })
        .await;
    }

    /// Waits until the role is healthy and no stream is parked.
    pub(crate) async fn parks_nothing(&self) {
        self.ready().await;
        until("nothing is parked", async || {
            self.parked.borrow().is_ok().then_some(())
        })
        .await;
    }
}

impl Bus {
    pub(crate) async fn new() -> Self {
        Self::of(PrivateBroker::shared().await).await
    }

    pub(crate) async fn of(node: &'static PrivateBroker) -> Self {
        let bus = Self::bare_of(node).await;
        // A test may publish without a publisher, which would declare this.
        bus.broker.declare(&published_topology()).await.unwrap();
        bus
    }

    /// A virtual host in which nothing is declared.
    pub(crate) async fn bare() -> Self {
        Self::bare_of(PrivateBroker::shared().await).await
    }

    async fn bare_of(node: &'static PrivateBroker) -> Self {
        let url = node.vhost().await;
        let vhost = url.rsplit('/').next().unwrap().to_owned();
        let broker = Broker::connect(&url, "test").unwrap();
        Self {
            broker,
            url,
            node,
            vhost,
        }
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// The broker as it is for this account.
    pub(crate) fn account(&self, account: &str) -> Broker {
        Broker::connect(&as_account(&self.url, account), "test").unwrap()
    }

    /// Gives the account other permissions.
    pub(crate) async fn permit(&self, account: &str, permissions: &Value) {
        let path = format!("permissions/{}/{account}", self.vhost);
        let answer = self.node.management("PUT", &path, permissions).await;
        answer.unwrap();
    }

    /// The permissions of the account.
    pub(crate) async fn permissions(&self, account: &str) -> Value {
        let path = format!("permissions/{}/{account}", self.vhost);
        self.node
            .management("GET", &path, &Value::Null)
            .await
            .unwrap()
    }

    pub(crate) fn publisher(&self, app: &App, pace: Pace) -> Role {
        let (store, keys) = (app.store.clone(), app.keys.clone());
        let publisher = Arc::new(EventPublisher::new(
            store,
            keys,
            self.account("users-publisher"),
            pace,
        ));
        let parked = publisher.parked();
        let role = Role::run(move |state, shutdown| {
            let publisher = Arc::clone(&publisher);
            async move { publisher.run(&state, &shutdown).await }
        });
        Role { parked, ..role }
    }

    pub(crate) fn projector(&self, app: &App, view: &View, check_every: Duration) -> Role {
        self.projector_of(repair(app, view), check_every)
    }

    /// The projectors of the directory, as a process hosts them.
    pub(crate) fn host(
        &self,
        app: &App,
        (registry, directory): (Registry, Directory),
        clock: Clock,
    ) -> Role {
        let broker = self.account("users-projector");
        let host = Host::new(
            (registry, Arc::new(directory), 4),
            (app.store.clone(), app.keys.clone(), broker),
            clock,
            Duration::from_secs(1),
        );
        let host = Arc::new(host);
        Role::run(move |state, shutdown| {
            let host = Arc::clone(&host);
            async move { host.run(&state, &shutdown).await }
        })
    }

    pub(crate) fn projector_of(&self, repair: Repair, check_every: Duration) -> Role {
        Self::project(Projector::new(
            repair,
            self.account("users-projector"),
            check_every,
        ))
    }

    /// A projector for which a message is lost at once if it does not come in its turn.
    pub(crate) fn impatient_projector(
        &self,
        app: &App,
        view: &View,
        check_every: Duration,
    ) -> Role {
        let projector = Projector::new(
            repair(app, view),
            self.account("users-projector"),
            check_every,
        );
        Self::project(projector.patience(Duration::ZERO))
    }

    fn project(projector: Projector) -> Role {
        let projector = Arc::new(projector);
        let deliveries = projector.deliveries();
        let role = Role::run(move |state, shutdown| {
            let projector = Arc::clone(&projector);
            async move { projector.run(&state, &shutdown).await }
        });
        Role { deliveries, ..role }
    }

    /// A consumer of commands that executes them with the app's handler.
    pub(crate) async fn commands(&self, app: &App) -> Role {
        self.commands_with(app, app.handler.clone()).await
    }

    /// A consumer of commands that executes them with this handler.
    pub(crate) async fn commands_with(&self, app: &App, handler: CommandHandler) -> Role {
        self.consumer(app, handler, (intake(), QueueKind::Plain))
            .await
    }

    /// A consumer of commands. The queue exists when this returns.
    pub(crate) async fn consumer(
        &self,
        app: &App,
        handler: CommandHandler,
        parts: (Intake, QueueKind),
    ) -> Role {
        let consumer = self.command_consumer(app, handler, parts).await;
        Self::consume(consumer)
    }

    pub(crate) async fn command_consumer(
        &self,
        app: &App,
        handler: CommandHandler,
        (intake, kind): (Intake, QueueKind),
    ) -> CommandConsumer {
        self.declare(kind).await;
        let databases = app.databases();
        let parts = (intake, Attempts::new(databases));
        CommandConsumer::new(handler, self.account("users-command-api"), parts, kind)
    }

    pub(crate) fn consume(consumer: CommandConsumer) -> Role {
        let consumer = Arc::new(consumer);
        Role::run(move |state, shutdown| {
            let consumer = Arc::clone(&consumer);
            async move { consumer.run(&state, &shutdown).await }
        })
    }

    /// Declares the queue of commands, if it is missing.
    pub(crate) async fn declare(&self, kind: QueueKind) {
        self.broker.declare(&topology(kind)).await.unwrap();
    }

    /// Publishes a message to the queue of commands, as any other client would.
    pub(crate) async fn command(&self, properties: Value, body: &str) {
        self.put(COMMANDS, properties, ("string", body)).await;
    }

    /// Publishes a message to a queue.
    pub(crate) async fn put(&self, queue: &str, properties: Value, (encoding, body): (&str, &str)) {
        let message = json!({
            "properties": properties,
            "routing_key": queue,
            "payload": body,
            "payload_encoding": encoding,
        });
        let rest = "amq.default/publish";
        let answer = self.manage("POST", "exchanges", rest, &message).await;
        assert_eq!(answer["routed"], true, "no queue took the message");
    }

    /// Reads the messages of a queue, and leaves them there.
    pub(crate) async fn messages(&self, queue: &str) -> Vec<Value> {
        self.get(queue, "ack_requeue_true").await
    }

    /// Takes the messages out of a queue, with bodies in base64.
    pub(crate) async fn take(&self, queue: &str) -> Vec<Value> {
        self.get(queue, "ack_requeue_false").await
    }

    async fn get(&self, queue: &str, mode: &str) -> Vec<Value> {
        let encoding = if mode == "ack_requeue_true" {
            "auto"
        } else {
            "base64"
        };
        let get = json!({"count": 1_000, "ackmode": mode, "encoding": encoding});
        let rest = format!("{queue}/get");
        let messages = self.manage("POST", "queues", &rest, &get).await;
        messages.as_array().unwrap().clone()
    }

    /// A queue of another program, for replies.
    pub(crate) async fn inbox(&self, name: &str) -> Consumer {
        let topology = Topology {
            queues: vec![messaging::Queue {
                name: name.into(),
                kind: QueueKind::Log,
            }],
            ..Topology::default()
        };
        let mut inbox = Consumer::new(self.broker.clone(), topology, name.into(), 1_000);
        assert!(matches!(inbox.next(1).await, Incoming::Opened { .. }));
        inbox
    }

    /// Calls the management API on an object of this virtual host.
    pub(crate) async fn manage(&self, method: &str, kind: &str, rest: &str, body: &Value) -> Value {
        let path = format!("{kind}/{}/{rest}", self.vhost);
        self.node.management(method, &path, body).await.unwrap()
    }

    /// A queue that gets all published messages, like the queue of another team.
    pub(crate) async fn probe(&self) -> Consumer {
        self.probe_of("probe", "#").await
    }

    /// A queue that gets only some types of messages.
    pub(crate) async fn probe_of(&self, name: &str, types: &str) -> Consumer {
        let topology = Topology {
            queues: vec![messaging::Queue {
                name: name.into(),
                kind: messaging::QueueKind::Log,
            }],
            bindings: vec![messaging::Binding {
                source: "users".into(),
                destination: messaging::Destination::Queue(name.into()),
                routing_key: types.into(),
            }],
            ..published_topology()
        };
        let mut probe = Consumer::new(self.broker.clone(), topology, name.into(), 1_000);
        assert!(matches!(probe.next(1).await, Incoming::Opened { .. }));
        probe
    }

    pub(crate) fn sender(&self) -> Sender {
        Sender::new(self.broker.clone(), Topology::default())
    }

    /// Publishes events of the user in the given order, as the publisher would.
    pub(crate) async fn publish(&self, app: &App, user: &Value, revisions: &[usize]) {
        let events = app
            .events(&format!("users-{}", crate::support::id(user)))
            .await;
        let sender = self.sender();
        for revision in revisions {
            let message = to_message(app, &events[*revision]).await;
            sender.publish(message.encode()).await.unwrap();
        }
    }

    /// The reasons of all messages in the dead-letter queues.
    pub(crate) async fn dead_letters(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        let get = json!({"count": 100, "ackmode": "ack_requeue_true", "encoding": "auto"});
        for partition in 0..PARTITIONS {
            let name = dead_letter_queue(&queue(partition));
            let path = format!("queues/{}/{name}/get", self.vhost);
            // A deleted queue has no messages.
            let dead = self.node.management("POST", &path, &get).await;
            let dead = dead.unwrap_or_default();
            let reason = |message: &Value| message["properties"]["headers"]["reason"].to_string();
            reasons.extend(dead.as_array().into_iter().flatten().map(reason));
        }
        reasons
    }
}

/// The key that seals commands.
fn message_key() -> MessageKey {
    let master: MasterKey = MASTER.repeat(32).parse().unwrap();
    master.message_key(SEALED_COMMANDS)
}

/// Hands commands of HTTP requests over to the queue.
pub(crate) fn command_sender(broker: Broker) -> CommandSender {
    CommandSender::new(broker, QueueKind::Plain, message_key())
}

/// Accepts plain and sealed commands.
pub(crate) fn intake() -> Intake {
    Intake::new(message_key(), Duration::from_hours(30 * 24))
}

/// The directory as readers see it.
#[derive(Clone)]
pub(crate) struct ReadModel {
    pub(crate) directory: Directory,
    pub(crate) generation: Generation,
}

impl ReadModel {
    pub(crate) async fn open(databases: &Databases) -> Self {
        let directory = Directory::new(SearchSecret::of(&master()));
        let generation = Generation::open(databases, &directory, (1, 4));
        let generation = generation.await.unwrap();
        Self {
            directory,
            generation,
        }
    }

    pub(crate) fn view(&self) -> View {
        View::new(self.generation.clone(), Arc::new(self.directory.clone()))
    }

    /// A view that removes erased data from a PostgreSQL server with this pause.
    pub(crate) fn view_with_pause(&self, pause: Duration) -> View {
        let projection = Arc::new(self.directory.clone());
        View::with_pause(self.generation.clone(), projection, pause)
    }

    /// All users.
    pub(crate) async fn users(&self, app: &App) -> Vec<ListedUser> {
        let all = PageRequest {
            limit: 10_000,
            ..PageRequest::default()
        };
        let page = self.directory.page(&self.generation, &app.keys, &all);
        page.await.unwrap().users
    }

    /// The list that answers requests.
    pub(crate) fn list(self, app: &App, clock: Clock) -> UserList {
        let cursors = Cursors::new(&master(), clock);
        let current = CurrentGeneration::always(self.generation);
        let directory = (self.directory, current);
        UserList::new(directory, app.keys.clone(), cursors)
    }
}

pub(crate) async fn read_model(app: &App) -> ReadModel {
    ReadModel::open(&app.databases()).await
}

pub(crate) async fn view(app: &App) -> View {
    read_model(app).await.view()
}

/// Repairs the directory, for operators.
pub(crate) async fn current_repair(app: &App) -> CurrentRepair {
    let ReadModel {
        directory,
        generation,
    } = read_model(app).await;
    let current = CurrentGeneration::always(generation);
    let parts = (app.store.clone(), app.keys.clone());
    CurrentRepair::new(current, Arc::new(directory), parts)
}

pub(crate) fn repair(app: &App, view: &View) -> Repair {
    Repair::new(app.store.clone(), app.keys.clone(), view.clone())
}

/// The ids and usernames that the list shows.
pub(crate) async fn listed(app: &App, read_model: &ReadModel) -> Vec<(String, String)> {
    let users = read_model.users(app).await;
    let listed = users.into_iter().map(|user| {
        let username = user.names[&NameField::Username].reveal().clone();
        (user.id.to_string(), username)
    });
    listed.collect()
}

pub(crate) async fn until_listed(app: &App, read_model: &ReadModel, expected: &[(&str, &str)]) {
    let expected: Vec<_> = expected
        .iter()
        .map(|(id, name)| ((*id).to_owned(), (*name).to_owned()))
        .collect();
    until(&format!("{expected:?} is listed"), async || {
        (listed(app, read_model).await == expected).then_some(())
    })
    .await;
}

/// Receives and acknowledges the next messages of a queue.
pub(crate) async fn receive(consumer: &mut Consumer, count: usize) -> Vec<Delivery> {
    let mut received = Vec::new();
    let receiving = async {
        while received.len() < count {
            if let Incoming::Batch(mut batch) = consumer.next(count - received.len()).await {
                let deliveries = std::mem::take(&mut batch.deliveries);
                received.extend(deliveries);
            }
        }
    };
    let received_all = tokio::time::timeout(Duration::from_mins(1), receiving).await;
    received_all.unwrap_or_else(|_| panic!("{count} messages did not arrive"));
    received
}

/// Waits until the publisher's checkpoint has reached the current end of the log.
pub(crate) async fn until_published(app: &App) {
    let end = app.log().await.last().unwrap().position;
    until("everything is published", async || {
        let published = published_up_to(&app.store).await.unwrap();
        (published >= Some(end)).then_some(())
    })
    .await;
}

/// The parked streams in the publisher's checkpoint. Null if there are none.
pub(crate) async fn parked_streams(app: &App) -> Value {
    let last = app.store.read_last("publisher-users").await.unwrap();
    let data = last.map_or(Value::Null, |last| {
        serde_json::from_slice(&last.data).unwrap()
    });
    data["parked"].clone()
}

/// The position of the publisher's checkpoint.
pub(crate) async fn published(app: &App) -> Option<Position> {
    published_up_to(&app.store).await.unwrap()
}

/// A message with any headers and any body.
pub(crate) fn forged(
    exchange: &str,
    routing_key: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Message {
    let header = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    Message {
        exchange: exchange.to_owned(),
        routing_key: routing_key.to_owned(),
        id: uuid::Uuid::new_v4().to_string(),
        content_type: "application/json".into(),
        headers: headers.iter().map(header).collect(),
        body: body.to_vec(),
    }
}

/// The publisher's message of an event.
pub(crate) async fn to_message(app: &App, event: &RecordedEvent) -> IntegrationEvent {
    let mapped = to_messages(&[event], &app.keys).await.unwrap();
    mapped.into_iter().next().unwrap().unwrap()
}
