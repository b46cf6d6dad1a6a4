//! One client with a runtime of its own, from its first call to its replacement.
//!
//! The vendor's client starts tasks that nobody can end: an append session that failed keeps its HTTP/2 stream open for
//! as long as the connection lives, and a server allows about 100 of them. They end when the runtime they were started
//! on ends, so each generation has its own (one thread) and takes everything with it when its last user drops it.
//! A panic inside the client (it unwraps what the server sends) ends a task there, and is an error here.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};

use eventstore::{Client, ClientSettings, Error, ReadStreamOptions};
use tokio::runtime::{Builder, Runtime};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// After so many ended append sessions, each of which leaves an HTTP/2 stream open, a successor is built.
const WORN_OUT: usize = 16;

/// After so many, nothing new is begun until the successor is there. With what may be in flight
/// ([`SESSIONS`](crate::sessions::SESSIONS), [`CALLS`](crate::call::CALLS)) this stays below the 100 streams that servers
/// allow on a connection by default.
const EXHAUSTED: usize = 44;

/// A client of a cluster moves to the leader by itself, one refused call later.
const PROBES: usize = 3;

/// A stream that nobody writes: reading it shows that the server answers.
const PROBE_STREAM: &str = "event-streams-probe";

#[derive(Debug)]
pub(crate) struct Generation {
    client: ClientOfRuntime,
    broken: CancellationToken,
    worn_out: CancellationToken,
    ended_sessions: AtomicUsize,
}

impl Generation {
    /// Connects and asks the server one question.
    pub(crate) async fn connect(settings: ClientSettings) -> Result<Self, Error> {
        let generation = Self {
            client: ClientOfRuntime::new(settings)?,
            broken: CancellationToken::new(),
            worn_out: CancellationToken::new(),
            ended_sessions: AtomicUsize::new(0),
        };
        generation.probe().await?;
        Ok(generation)
    }

    /// Asks the server for something that is not there. A refusal (of the credentials, for example) is no answer: it
    /// would meet every other call too.
    pub(crate) async fn probe(&self) -> Result<(), Error> {
        let mut last = Error::ConnectionClosed;
        for _ in 0..PROBES {
            match self.run(probe).await {
                Err(error @ Error::NotLeaderException(_)) => last = error,
                Ok(()) | Err(Error::ResourceNotFound | Error::ResourceDeleted) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
        Err(last)
    }

    /// Runs a call of the client on this generation's runtime; dropping the returned future ends the call.
    pub(crate) async fn run<T, F>(&self, call: impl FnOnce(Client) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let outcome = self.spawn(call).await;
        outcome.unwrap_or(Err(Error::InternalClientError))
    }

    /// Starts a task of the client on this generation's runtime, which ends with the returned handle.
    pub(crate) fn spawn<T, F>(&self, task: impl FnOnce(Client) -> F) -> AbortOnDropHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        self.client.spawn(task)
    }

    /// The connection is no use any more: the supervisor builds another.
    pub(crate) fn report_broken(&self) {
        self.broken.cancel();
    }

    /// An append session ended, and left its HTTP/2 stream open.
    pub(crate) fn report_ended_session(&self) {
        if self.ended_sessions.fetch_add(1, Ordering::Relaxed) + 1 == WORN_OUT {
            self.worn_out.cancel();
        }
    }

    pub(crate) fn is_broken(&self) -> bool {
        self.broken.is_cancelled()
    }

    /// Whether something new may be begun.
    pub(crate) fn is_usable(&self) -> bool {
        !self.is_broken() && self.ended_sessions.load(Ordering::Relaxed) < EXHAUSTED
    }

    /// Returns once a successor is needed.
    pub(crate) async fn spent(&self) {
        tokio::select! {
            () = self.broken.cancelled() => {}
            () = self.worn_out.cancelled() => {}
        }
    }
}

async fn probe(client: Client) -> Result<(), Error> {
    let options = ReadStreamOptions::default().max_count(1);
    let mut answer = client.read_stream(PROBE_STREAM, &options).await?;
    answer.next().await.map(|_| ())
}

/// The client and the runtime that its tasks run on.
struct ClientOfRuntime {
    client: Client,
    runtime: Option<Runtime>,
}

impl ClientOfRuntime {
    fn new(settings: ClientSettings) -> Result<Self, Error> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(1)
            .thread_name("event-streams")
            .enable_all()
            .build()
            .map_err(|error| Error::InitializationError(error.to_string()))?;
        Ok(Self {
            client: Client::with_runtime_handle(runtime.handle().clone(), settings)?,
            runtime: Some(runtime),
        })
    }

    fn spawn<T, F>(&self, task: impl FnOnce(Client) -> F) -> AbortOnDropHandle<T>
    where
        T: Send + 'static,
        F: Future<Output = T> + Send + 'static,
    {
        let runtime = self.runtime.as_ref().expect("present until dropped");
        AbortOnDropHandle::new(runtime.spawn(task(self.client.clone())))
    }
}

impl Drop for ClientOfRuntime {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // A runtime that is merely dropped waits for its tasks, and may not be inside another one.
            runtime.shutdown_background();
        }
    }
}

impl std::fmt::Debug for ClientOfRuntime {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Client").finish_non_exhaustive()
    }
}
