//! Services in this process, and clocks that tests set.

use access_tokens::AccessSettings;
use std::{
    future::Future,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use event_streams::{Direction, EventStreams, RecordedEvent};
use reqwest::{Client, Response, StatusCode};
use serde_json::Value;
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::MissedTickBehavior};
use tokio_util::sync::{CancellationToken, DropGuard};
use uuids_service::{
    clock::Clock,
    config::{Config, WindowsConfig},
    startup::Application,
};

pub(crate) use crate::store::{Backup, Store};

/// 2026-05-28T08:00:19.999Z, in milliseconds since 2015.
pub(crate) const SOME_DAY_MS: u64 = 359_884_819_999;
/// An address where nobody listens: the discard port.
pub(crate) const NOWHERE: &str = "127.0.0.1:9";

const DEADLINE: Duration = Duration::from_mins(1);

/// A clock that moves only when a test sets it.
pub(crate) struct ManualClock(AtomicU64);

impl ManualClock {
    pub(crate) fn at(now_ms: u64) -> Arc<Self> {
        Arc::new(Self(now_ms.into()))
    }

    pub(crate) fn set(&self, now_ms: u64) {
        self.0.store(now_ms, Ordering::SeqCst);
    }

    pub(crate) fn step(&self, by_ms: i64) {
        // Adding a negative number modulo 2⁶⁴ is subtracting.
        self.0.fetch_add(by_ms.cast_unsigned(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now_ms(&self) -> u64 {
        self.0.load(Ordering::SeqCst)
    }
}

/// A service in this process; it ends with the test.
pub(crate) struct TestApp {
    pub(crate) url: String,
    /// The data folder, if it belongs to this service alone.
    _folder: Option<TempDir>,
    client: Client,
    run: JoinHandle<anyhow::Result<()>>,
    shutdown: DropGuard,
}

/// A service without a broker, on a machine of its own.
pub(crate) fn spawn_app(store_url: &str, clock: &Arc<ManualClock>) -> TestApp {
    spawn_with_broker(store_url, &no_broker(), clock)
}

/// A service without a broker, whose record of windows is in this folder.
pub(crate) fn spawn_in(data: &Path, store_url: &str, clock: Arc<dyn Clock>) -> TestApp {
    spawn(&config(data, store_url, &no_broker()), clock)
}

pub(crate) fn spawn_with_broker(
    store_url: &str,
    amqp_url: &str,
    clock: &Arc<ManualClock>,
) -> TestApp {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), store_url, amqp_url);
    TestApp {
        _folder: Some(folder),
        ..spawn(&config, Arc::clone(clock) as Arc<dyn Clock>)
    }
}

fn no_broker() -> String {
    format!("amqp://{NOWHERE}/%2f")
}

pub(crate) fn config(data: &Path, store_url: &str, amqp_url: &str) -> Config {
    Config {
        bind: ([127, 0, 0, 1], 0).into(),
        windows: WindowsConfig {
            eventstore_url: store_url.to_owned(),
            data: data.to_owned(),
        },
        amqp_url: amqp_url.to_owned(),
        access: AccessSettings::default(),
    }
}

fn spawn(config: &Config, clock: Arc<dyn Clock>) -> TestApp {
    let application = Application::build(config, clock).unwrap();
    let shutdown = CancellationToken::new();
    TestApp {
        url: format!("http://{}", application.address()),
        _folder: None,
        client: Client::new(),
        run: tokio::spawn(application.run(shutdown.clone())),
        shutdown: shutdown.drop_guard(),
    }
}

impl TestApp {
    pub(crate) async fn get(&self, path: &str) -> Response {
        self.client
            .get(format!("{}{path}", self.url))
            .send()
            .await
            .unwrap()
    }

    /// The ids of one request, which must succeed.
    pub(crate) async fn ids(&self, query: &str) -> Vec<u64> {
        let response = self.get(&format!("/?{query}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{query}");
        numbers(&response.json().await.unwrap())
    }

    /// The ids of one request as plain text, or the status of the refusal.
    pub(crate) async fn lines(&self, path: &str) -> Result<Vec<u64>, StatusCode> {
        lines(&self.client, &format!("{}{path}", self.url)).await
    }

    /// Waits until the service has a window.
    pub(crate) async fn leased(&self) {
        self.dependency("event store", "up").await;
    }

    /// Waits until the readiness state of the dependency begins with `state`.
    pub(crate) async fn dependency(&self, name: &str, state: &str) {
        until("the dependency has the expected state", || async {
            let ready: Value = self.get("/_readyz").await.json().await.unwrap();
            let said = ready["dependencies"][name].as_str()?.to_owned();
            said.starts_with(state).then_some(())
        })
        .await;
    }

    /// Stops the service as a signal would, and waits until it has ended.
    pub(crate) async fn stop(self) {
        self.shutdown.disarm().cancel();
        self.run.await.unwrap().unwrap();
    }
}

/// The windows of a worker number in the log, each as `(from_ms, until_ms)`.
pub(crate) async fn grants(store: &Store, worker: u64) -> Vec<(u64, u64)> {
    let streams = EventStreams::connect(&store.url()).unwrap();
    let stream = format!("uuids-worker-{worker}");
    let events = streams.read(&stream, Direction::ForwardFrom(0), 100).await;
    let window = |event: &RecordedEvent| {
        let data: Value = serde_json::from_slice(&event.data).unwrap();
        let ms = |name: &str| data[name].as_u64().unwrap();
        (ms("from_ms"), ms("until_ms"))
    };
    events.unwrap().iter().map(window).collect()
}

pub(crate) fn numbers(answer: &Value) -> Vec<u64> {
    let texts = answer["data"].as_array().unwrap().iter();
    texts
        .map(|id| id.as_str().unwrap().parse().unwrap())
        .collect()
}

/// The ids of one request as plain text, or the status of the refusal.
pub(crate) async fn lines(client: &Client, url: &str) -> Result<Vec<u64>, StatusCode> {
    let answer = client.get(url).header("accept", "text/plain").send().await;
    let answer = answer.map_err(|_| StatusCode::BAD_GATEWAY)?;
    if answer.status() != StatusCode::OK {
        return Err(answer.status());
    }
    let text = answer.text().await.map_err(|_| StatusCode::BAD_GATEWAY)?;
    Ok(text.lines().map(|id| id.parse().unwrap()).collect())
}

/// How many ids a campaign takes: the variable `IDS`, or a million.
pub(crate) fn ids_to_take() -> u64 {
    let ids = std::env::var("IDS");
    ids.map_or(1_000_000, |ids| ids.parse().expect("IDS is a number"))
}

/// Polls `condition` until it returns a value; fails after a minute.
pub(crate) async fn until<T, F>(what: &str, condition: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    until_within(DEADLINE, what, condition).await
}

/// Polls `condition` until it returns a value; fails after the deadline.
pub(crate) async fn until_within<T, F>(
    deadline: Duration,
    what: &str,
    mut condition: impl FnMut() -> F,
) -> T
where
    F: Future<Output = Option<T>>,
{
    let mut looks = tokio::time::interval(Duration::from_millis(20));
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let found = async {
        loop {
            looks.tick().await;
            if let Some(found) = condition().await {
                return found;
            }
        }
    };
    let found = tokio::time::timeout(deadline, found).await;
    found.unwrap_or_else(|_| panic!("waited {deadline:?} in vain: {what}"))
}

pub(crate) fn millisecond(id: u64) -> u64 {
    id >> 22
}

pub(crate) fn worker(id: u64) -> u64 {
    id >> 12 & 0x3ff
}
