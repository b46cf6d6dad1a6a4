//! A command API for each test, with its own store, keys and port.

use access_tokens::Verifier;
use event_streams::{Direction, EventStreams, Expected, NewEvent, RecordedEvent};
use eventstore_lite::{Config, Server as Store};
use futures::future::{BoxFuture, FutureExt as _};
use private_postgres::PrivatePostgres;
use reqwest::{Method, RequestBuilder, Response, StatusCode, header};
use serde_json::{Value, json};
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, AnyPool, AssertSqlSafe, Connection as _};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tempfile::TempDir;
use tokio_util::sync::{CancellationToken, DropGuard};
use users_service::command::api;
use users_service::command::envelope::{Command, Committed, Envelope};
use users_service::command::error::CommandError;
use users_service::command::handler::CommandHandler;
use users_service::command::queue::CommandSender;
use users_service::database::Databases;
use users_service::domain::{FamilyName, GivenName, Profile, UserId, Username};
use users_service::eraser::Eraser;
use users_service::erasure::Erasure;
use users_service::ids::{FetchError, IdService, IdSource};
use users_service::privacy::cipher::MasterKey;
use users_service::privacy::subject_keys::SubjectKeys;
use users_service::sweeper::Sweeper;

/// The time limit of a condition. Only a failing test waits this long.
const DEADLINE: Duration = Duration::from_mins(1);

/// One byte of the master key, in hexadecimal digits.
pub(crate) const MASTER: &str = "0c";
/// One byte of the username secret, in hexadecimal digits.
pub(crate) const SECRET: &str = "0d";

pub(crate) fn master() -> MasterKey {
    MASTER.repeat(32).parse().unwrap()
}

/// Ids from a counter. The real service has its own tests.
#[derive(Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn from(number: u64) -> Self {
        Self(AtomicU64::new(number))
    }
}

impl IdService for Counter {
    fn fetch(
        &self,
        count: usize,
        _: Option<UserId>,
    ) -> BoxFuture<'_, Result<Vec<UserId>, FetchError>> {
        let first = 1 + self.0.fetch_add(count as u64, Ordering::SeqCst);
        async move { Ok((first..first + count as u64).map(UserId::new).collect()) }.boxed()
    }
}

/// A running command API and its stores.
pub(crate) struct App {
    pub(crate) store: EventStreams,
    pub(crate) keys: SubjectKeys,
    pub(crate) handler: CommandHandler,
    pub(crate) folder: TempDir,
    /// The place of the keys.
    pub(crate) databases: Databases,
    server: Option<Store>,
    url: String,
    client: reqwest::Client,
    /// How often the store's counters were read.
    counted: AtomicU64,
    _stops_when_dropped: DropGuard,
}

pub(crate) async fn spawn_app() -> App {
    spawn_app_in(TempDir::new().unwrap()).await
}

/// An app in a folder that may already have keys.
pub(crate) async fn spawn_app_in(folder: TempDir) -> App {
    let databases = Databases::Folder(folder.path().to_owned());
    spawn_app_with(folder, databases).await
}

/// An app with its keys in a new PostgreSQL database.
pub(crate) async fn spawn_app_on_postgres() -> App {
    spawn_app_on(PrivatePostgres::shared().await).await
}

/// An app with its keys in a new database of this server.
pub(crate) async fn spawn_app_on(server: &PrivatePostgres) -> App {
    let url = server.database().await;
    spawn_app_with(TempDir::new().unwrap(), Databases::Postgres(url)).await
}

/// Tests of an app, with its keys in a SQLite file and on PostgreSQL.
macro_rules! on_both {
    ($($test:ident,)*) => {
        mod on_sqlite {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::spawn_app().await).await; })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $test() { super::$test(crate::support::spawn_app_on_postgres().await).await; })*
        }
    };
}
pub(crate) use on_both;

async fn spawn_app_with(folder: TempDir, databases: Databases) -> App {
    let server = Store::start(Config::new(folder.path().join("store"))).await;
    let server = server.unwrap();
    let store = EventStreams::connect(&server.url()).unwrap();
    let keys = SubjectKeys::open(&databases, master()).await;
    let keys = keys.unwrap();
    let handler = CommandHandler::new(
        store.clone(),
        keys.clone(),
        SECRET.repeat(32).parse().unwrap(),
        IdSource::new(vec![Box::new(Counter::default())]),
    );
    let (url, stops_when_dropped) = serve_until_dropped(handler.clone(), None);
    App {
        store,
        keys,
        handler,
        folder,
        databases,
        server: Some(server),
        url,
        client: reqwest::Client::new(),
        counted: AtomicU64::new(0),
        _stops_when_dropped: stops_when_dropped,
    }
}

/// Serves the routes of single users until the guard is dropped. Returns the URL.
fn serve_until_dropped(
    handler: CommandHandler,
    sender: Option<CommandSender>,
) -> (String, DropGuard) {
    let shutdown = CancellationToken::new();
    let address = serve_with(handler, (sender, None), shutdown.clone());
    (format!("http://{address}"), shutdown.drop_guard())
}

/// Serves the routes of single users in a thread.
pub(crate) fn serve(handler: CommandHandler, shutdown: CancellationToken) -> SocketAddr {
    serve_with(handler, (None, None), shutdown)
}

/// Serves the routes of single users in a thread: to callers with tokens for the verifier, and with asynchronous answers through
/// the sender.
pub(crate) fn serve_with(
    handler: CommandHandler,
    (sender, verifier): (Option<CommandSender>, Option<Verifier>),
    shutdown: CancellationToken,
) -> SocketAddr {
    let sender = sender.map(actix_web::web::Data::new);
    serve_routes(verifier, shutdown, move |config| {
        if let Some(sender) = &sender {
            config.app_data(actix_web::web::Data::clone(sender));
        }
        config
            .app_data(actix_web::web::Data::new(handler.clone()))
            .service(api::create_at(actix_web::web::resource("/")))
            .configure(api::one_user);
    })
}

/// Serves these routes in a thread, to callers with tokens for the verifier.
pub(crate) fn serve_routes(
    verifier: Option<Verifier>,
    shutdown: CancellationToken,
    routes: impl Fn(&mut actix_web::web::ServiceConfig) + Clone + Send + 'static,
) -> SocketAddr {
    let server = web::Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let server = server.admitting(verifier);
    let address = server.address();
    std::thread::spawn(move || {
        let serving = server.run(web::Readiness::new(), routes, shutdown);
        actix_web::rt::System::new().block_on(serving)
    });
    address
}

pub(crate) fn user(username: &str) -> Value {
    json!({"username": username, "given_name": "Ada", "family_name": "Lovelace"})
}

/// The profile of a user with this name.
pub(crate) fn profile(username: &str) -> Profile {
    Profile {
        username: Username::parse(username).unwrap(),
        given_name: GivenName::parse("Ada").unwrap(),
        family_name: FamilyName::parse("Lovelace").unwrap(),
    }
}

/// Creates a user with this name, without HTTP.
pub(crate) async fn create(
    handler: &CommandHandler,
    username: &str,
) -> Result<Committed, CommandError> {
    let create = Envelope::new(Command::Create(profile(username)));
    handler.execute(&create).await
}

pub(crate) fn id(user: &Value) -> &str {
    user["id"].as_str().unwrap()
}

/// Waits until `holds` returns a value, and returns it.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(
    what: &str,
    holds: impl Fn() -> F,
) -> T {
    let waiting = async {
        loop {
            if let Some(found) = holds().await {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(DEADLINE, waiting).await;
    waited.unwrap_or_else(|_| panic!("this did not happen in time: {what}"))
}

/// Connections to the tables of a database.
pub(crate) async fn tables(databases: &Databases, name: &str) -> AnyPool {
    sqlx::any::install_default_drivers();
    let (url, schema) = match databases {
        Databases::Folder(folder) => {
            let file = folder.join(format!("{name}.db"));
            (format!("sqlite:{}", file.display()), String::new())
        }
        Databases::Postgres(url) => (url.clone(), format!("SET search_path TO {name}")),
    };
    let pool = AnyPoolOptions::new().after_connect(move |connection, _| {
        let schema = AssertSqlSafe(schema.clone());
        Box::pin(async move { sqlx::raw_sql(schema).execute(connection).await.map(drop) })
    });
    pool.connect(&url).await.unwrap()
}

impl App {
    /// A handler with the same store and keys, but with these ids.
    pub(crate) fn handler_with(&self, ids: IdSource) -> CommandHandler {
        let (store, keys) = (self.store.clone(), self.keys.clone());
        CommandHandler::new(store, keys, SECRET.repeat(32).parse().unwrap(), ids)
    }

    /// A request to a path of the service, not sent yet.
    pub(crate) fn request(&self, method: Method, path: &str) -> RequestBuilder {
        self.client.request(method, format!("{}{path}", self.url))
    }

    /// The same stores behind another handler.
    pub(crate) fn with_handler(self, other: impl FnOnce(CommandHandler) -> CommandHandler) -> Self {
        let handler = other(self.handler);
        let (url, stops_when_dropped) = serve_until_dropped(handler.clone(), None);
        Self {
            url,
            handler,
            _stops_when_dropped: stops_when_dropped,
            ..self
        }
    }

    /// The same stores behind routes whose clients may prefer asynchronous answers.
    pub(crate) fn deferring(self, sender: CommandSender) -> Self {
        let handler = self.handler.clone();
        let (url, stops_when_dropped) = serve_until_dropped(handler, Some(sender));
        Self {
            url,
            _stops_when_dropped: stops_when_dropped,
            ..self
        }
    }

    /// Serves the same users with these ids, until the guard is dropped. Returns the URL.
    pub(crate) fn serve_with(&self, ids: IdSource) -> (String, DropGuard) {
        serve_until_dropped(self.handler_with(ids), None)
    }

    pub(crate) async fn send(&self, method: Method, path: &str, body: &Value) -> Response {
        self.request(method, path).json(body).send().await.unwrap()
    }

    pub(crate) async fn send_as(
        &self,
        method: Method,
        path: &str,
        media_type: &str,
        body: String,
    ) -> Response {
        let request = self.request(method, path);
        let request = request.header(header::CONTENT_TYPE, media_type);
        request.body(body).send().await.unwrap()
    }

    pub(crate) async fn create(&self, body: &Value) -> Response {
        self.send(Method::POST, "/", body).await
    }

    pub(crate) async fn created(&self, username: &str) -> Value {
        let answer = self.create(&user(username)).await;
        assert_eq!(answer.status(), StatusCode::CREATED);
        answer.json().await.unwrap()
    }

    pub(crate) async fn patch(&self, user: &Value, body: &Value) -> StatusCode {
        let path = format!("/{}", id(user));
        self.send(Method::PATCH, &path, body).await.status()
    }

    pub(crate) async fn delete(&self, user: &Value) -> StatusCode {
        let url = format!("{}/{}", self.url, id(user));
        self.client.delete(url).send().await.unwrap().status()
    }

    pub(crate) async fn get(&self, user: &Value) -> Response {
        let url = format!("{}/{}", self.url, id(user));
        self.client.get(url).send().await.unwrap()
    }

    pub(crate) async fn is_there(&self, user: &Value) -> bool {
        match self.get(user).await.status() {
            StatusCode::OK => true,
            StatusCode::NOT_FOUND => false,
            status => panic!("{status}"),
        }
    }

    pub(crate) async fn events(&self, stream: &str) -> Vec<RecordedEvent> {
        let all = self.store.read(stream, Direction::ForwardFrom(0), 1_000);
        all.await.unwrap()
    }

    /// Appends an event, as another writer would.
    pub(crate) async fn append(&self, stream: &str, event_type: &'static str, data: &str) {
        let event = NewEvent {
            id: uuid::Uuid::new_v4(),
            event_type: event_type.into(),
            data: data.to_owned().into(),
            metadata: bytes::Bytes::new(),
        };
        let appended = self.store.append(stream, Expected::Any, vec![event]);
        appended.await.unwrap();
    }

    /// Every event of the service, in the order of the log.
    pub(crate) async fn log(&self) -> Vec<RecordedEvent> {
        let prefixes = ["users", "username-"];
        let page = self.store.read_all(&prefixes, None, 10_000).await.unwrap();
        assert!(page.end);
        page.events
    }

    /// Every event of the store, except those of `$` streams of the server.
    pub(crate) async fn whole_log(&self) -> Vec<RecordedEvent> {
        let prefixes = ["users", "username-", "command-", "$$command-", "snapshot-"];
        let page = self.store.read_all(&prefixes, None, 10_000).await.unwrap();
        assert!(page.end);
        page.events
    }

    /// Where the read models are.
    pub(crate) fn databases(&self) -> Databases {
        self.databases.clone()
    }

    /// Connections to the tables of the directory, to look at them or to damage them.
    pub(crate) async fn tables(&self) -> AnyPool {
        tables(&self.databases, "directory_g1").await
    }

    /// A connection to the database of the keys.
    pub(crate) async fn key_database(&self) -> AnyConnection {
        match &self.databases {
            Databases::Folder(folder) => {
                let url = format!("sqlite:{}", folder.join("keys.db").display());
                AnyConnection::connect(&url).await.unwrap()
            }
            Databases::Postgres(url) => {
                let mut connection = AnyConnection::connect(url).await.unwrap();
                let schema = sqlx::raw_sql("SET search_path TO subject_keys");
                schema.execute(&mut connection).await.unwrap();
                connection
            }
        }
    }

    /// The number of keys in the store, used or not.
    pub(crate) async fn rows_of_keys(&self) -> i64 {
        let count = sqlx::query_scalar("SELECT count(*) FROM keys");
        count
            .fetch_one(&mut self.key_database().await)
            .await
            .unwrap()
    }

    /// The number of calls that the store has received, without the calls that count.
    pub(crate) async fn store_calls(&self) -> u64 {
        let calls = self
            .metric("eventstore_incoming_grpc_calls{kind=\"total\"} ")
            .await;
        calls - self.counted.load(Ordering::SeqCst)
    }

    /// The number of events that the store has read for its clients.
    pub(crate) async fn events_read(&self) -> u64 {
        self.metric("eventstore_io_events{activity=\"read\"} ")
            .await
    }

    /// The number of events that were appended to the store.
    pub(crate) async fn events_written(&self) -> u64 {
        self.metric("eventstore_io_events{activity=\"written\"} ")
            .await
    }

    async fn metric(&self, name: &str) -> u64 {
        self.counted.fetch_add(1, Ordering::SeqCst);
        let address = self.server.as_ref().unwrap().address();
        let page = self.client.get(format!("http://{address}/metrics"));
        let page = page.send().await.unwrap().text().await.unwrap();
        let value = page.lines().find_map(|line| line.strip_prefix(name));
        value.unwrap().parse().unwrap()
    }

    pub(crate) fn store_url(&self) -> String {
        self.server.as_ref().unwrap().url()
    }

    pub(crate) fn erasure(&self) -> Erasure {
        Erasure::new(self.store.clone(), self.keys.clone())
    }

    /// Runs an eraser until the guard is dropped.
    pub(crate) fn eraser(&self) -> DropGuard {
        let eraser = Eraser::new(self.store.clone(), self.erasure());
        let (state, _) = tokio::sync::watch::channel(Ok(()));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { eraser.run(&state, &stop).await.unwrap() });
        shutdown.drop_guard()
    }

    /// Runs a sweeper with this pause between two rounds until the guard is dropped.
    pub(crate) fn sweeper(&self, pause: Duration) -> DropGuard {
        let sweeper = Sweeper::new(self.store.clone(), pause);
        let (state, _) = tokio::sync::watch::channel(Ok(()));
        let shutdown = CancellationToken::new();
        let stop = shutdown.clone();
        tokio::spawn(async move { sweeper.run(&state, &stop).await.unwrap() });
        shutdown.drop_guard()
    }

    /// Stops the store until `meanwhile` has ended. Then it is started again at the same address.
    pub(crate) async fn interrupt_store(&mut self, meanwhile: impl AsyncFnOnce()) {
        let server = self.server.take().unwrap();
        let mut config = Config::new(self.folder.path().join("store"));
        config.address = server.address();
        server.shutdown().await;
        meanwhile().await;
        self.server = Some(Store::start(config).await.unwrap());
    }

    /// Stops the store for good.
    pub(crate) async fn stop_store(&mut self) {
        self.server.take().unwrap().shutdown().await;
    }
}
