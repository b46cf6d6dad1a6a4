//! The supervisor: there is a working generation, or one is being built, until nobody wants one any more.

use std::sync::Arc;
use std::time::Duration;

use eventstore::ClientSettings;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::backoff::Backoff;
use crate::error::Unavailable;
use crate::generation::Generation;

/// How long an attempt to connect may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// A connection that lasted so long was a good one: the next attempt need not wait long.
const LASTED: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
enum State {
    Up(Arc<Generation>),
    Down(Unavailable),
}

/// The way to the generation of the moment.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    state: watch::Receiver<State>,
}

impl Connection {
    /// Starts the supervisor, which ends when the last clone is dropped.
    pub(crate) fn supervise(settings: ClientSettings) -> Self {
        let (sender, state) = watch::channel(State::Down(Unavailable::new("not connected yet")));
        tokio::spawn(supervise(settings, sender));
        Self { state }
    }

    /// Waits for a generation that works, as far as is known.
    pub(crate) async fn generation(&self) -> Arc<Generation> {
        let mut state = self.state.clone();
        loop {
            if let State::Up(generation) = &*state.borrow_and_update()
                && !generation.is_broken()
            {
                return Arc::clone(generation);
            }
            if state.changed().await.is_err() {
                // The supervisor only ends with its runtime, and then nobody polls this either.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Why there is no answer: no connection, or a connection without an answer.
    pub(crate) fn why(&self) -> Unavailable {
        match &*self.state.borrow() {
            State::Up(_) => Unavailable::new("no answer in time"),
            State::Down(reason) => reason.clone(),
        }
    }
}

async fn supervise(settings: ClientSettings, state: watch::Sender<State>) {
    let abandoned = state.clone();
    tokio::select! {
        () = abandoned.closed() => {}
        () = renew_for_ever(settings, state) => {}
    }
}

async fn renew_for_ever(settings: ClientSettings, state: watch::Sender<State>) {
    let mut backoff = Backoff::new();
    let mut was_up = true;
    loop {
        match connect(&settings).await {
            Ok(generation) => {
                was_up = true;
                if serve_until_spent(generation, &state).await {
                    backoff.reset();
                }
            }
            Err(reason) => {
                if std::mem::take(&mut was_up) {
                    tracing::warn!(reason = reason.reason, "no connection to the event store");
                }
                state.send_replace(State::Down(reason));
            }
        }
        backoff.pause().await;
    }
}

/// Hands the generation to the callers until it must be replaced, and says whether it lasted. A server that answers the
/// first question and nothing else is not asked in a tight loop.
async fn serve_until_spent(generation: Generation, state: &watch::Sender<State>) -> bool {
    let since = Instant::now();
    let generation = Arc::new(generation);
    state.send_replace(State::Up(Arc::clone(&generation)));
    tracing::info!("connected to the event store");
    generation.spent().await;
    !generation.is_broken() || since.elapsed() > LASTED
}

async fn connect(settings: &ClientSettings) -> Result<Generation, Unavailable> {
    match timeout(CONNECT_WITHIN, Generation::connect(settings.clone())).await {
        Ok(outcome) => outcome.map_err(|error| Unavailable::new(error.to_string())),
        Err(_) => Err(Unavailable::new("no answer while connecting")),
    }
}
