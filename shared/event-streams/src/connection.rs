//! The supervisor: there is a working generation, or one is being built, until nobody wants one any more.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use crate::error::Unavailable;
use crate::generation::Generation;
use crate::settings::Settings;
use jittered_backoff::Backoff;

/// How long an attempt to connect may take, discovery included.
const CONNECT_WITHIN: Duration = Duration::from_secs(4);
/// A connection that lasted so long was a good one: the next attempt need not wait long.
const LASTED: Duration = Duration::from_secs(5);

#[derive(Debug, Clone)]
enum State {
    /// The first attempt is under way.
    Unknown,
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
    pub(crate) fn supervise(settings: Arc<Settings>) -> Self {
        let (sender, state) = watch::channel(State::Unknown);
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

    /// The reason, if the last attempt to connect failed: whoever asks now need not wait for the next.
    pub(crate) fn known_to_be_down(&self) -> Result<(), Unavailable> {
        match &*self.state.borrow() {
            State::Unknown | State::Up(_) => Ok(()),
            State::Down(reason) => Err(reason.clone()),
        }
    }

    /// Why there is no answer: no connection, or a connection without an answer.
    pub(crate) fn why(&self) -> Unavailable {
        match &*self.state.borrow() {
            State::Unknown => Unavailable::new("not connected yet"),
            State::Up(_) => Unavailable::new("no answer in time"),
            State::Down(reason) => reason.clone(),
        }
    }
}

async fn supervise(settings: Arc<Settings>, state: watch::Sender<State>) {
    let abandoned = state.clone();
    tokio::select! {
        () = abandoned.closed() => {}
        () = renew_for_ever(settings, state) => {}
    }
}

async fn renew_for_ever(settings: Arc<Settings>, state: watch::Sender<State>) {
    let mut backoff = Backoff::default();
    let mut was_up = false;
    loop {
        match connect(&settings).await {
            Ok(generation) => {
                if !std::mem::replace(&mut was_up, true) {
                    tracing::info!("connected to the event store");
                }
                if serve_until_broken(generation, &state).await > LASTED {
                    backoff.reset();
                }
            }
            Err(reason) => {
                report_down(&state, reason);
                was_up = false;
            }
        }
        backoff.pause().await;
    }
}

/// Says so to callers, and once an outage to the log.
fn report_down(state: &watch::Sender<State>, reason: Unavailable) {
    let known = matches!(&*state.borrow(), State::Down(known) if *known == reason);
    if !known {
        tracing::warn!(reason = reason.reason, "no connection to the event store");
    }
    state.send_replace(State::Down(reason));
}

/// Hands the generation to the callers until it must be replaced, and tells how long it lasted. A server that answers
/// the first question and nothing else is not asked in a tight loop.
async fn serve_until_broken(generation: Generation, state: &watch::Sender<State>) -> Duration {
    let since = Instant::now();
    let generation = Arc::new(generation);
    state.send_replace(State::Up(Arc::clone(&generation)));
    generation.broken().await;
    since.elapsed()
}

async fn connect(settings: &Arc<Settings>) -> Result<Generation, Unavailable> {
    match timeout(CONNECT_WITHIN, Generation::connect(settings)).await {
        Ok(outcome) => outcome.map_err(|error| Unavailable::new(error.to_string())),
        Err(_) => Err(Unavailable::new("no answer while connecting")),
    }
}
