//! The supervisor. It provides a working generation or builds the next one, until the last [`Connection`] is dropped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use crate::error::Unavailable;
use crate::failure::Failure;
use crate::generation::Generation;
use crate::settings::{KeepAlive, Settings};
use jittered_backoff::Backoff;

/// The time limit of one attempt to connect, including discovery.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(4);
/// A connection that lasted longer than this resets the backoff, so that the next attempt starts soon.
const STABLE_AFTER: Duration = Duration::from_secs(5);
/// The time limit of a probe.
const PROBE_TIMEOUT: Duration = Duration::from_secs(4);
/// The shortest time between two probes.
const BETWEEN_PROBES: Duration = Duration::from_millis(250);

#[derive(Debug, Clone)]
enum State {
    /// The first attempt is still running.
    Unknown,
    Up(Arc<Generation>),
    Down(Unavailable),
}

/// A handle to the current generation.
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

    /// Waits for a generation that is not known to be broken.
    pub(crate) async fn generation(&self) -> Arc<Generation> {
        let mut state = self.state.clone();
        loop {
            if let State::Up(generation) = &*state.borrow_and_update()
                && !generation.is_broken()
            {
                return Arc::clone(generation);
            }
            if state.changed().await.is_err() {
                // The supervisor only ends with its runtime, and then this future is never polled again.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Fails with the reason if the last attempt to connect failed, so that a call need not wait for the next attempt.
    pub(crate) fn fail_if_down(&self) -> Result<(), Unavailable> {
        match &*self.state.borrow() {
            State::Unknown | State::Up(_) => Ok(()),
            State::Down(reason) => Err(reason.clone()),
        }
    }

    /// The error of a call that reached its time limit: the server is not connected, or it did not answer.
    pub(crate) fn timed_out(&self) -> Unavailable {
        match &*self.state.borrow() {
            State::Unknown => Unavailable::new("not connected yet"),
            State::Up(_) => Unavailable::new("no answer in time"),
            State::Down(reason) => reason.clone(),
        }
    }
}

async fn supervise(settings: Arc<Settings>, state: watch::Sender<State>) {
    let handles = state.clone();
    tokio::select! {
        () = handles.closed() => {}
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
                if serve_until_broken(generation, &settings, &state).await > STABLE_AFTER {
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

/// Lets calls fail with the reason, and logs it when it changes.
fn report_down(state: &watch::Sender<State>, reason: Unavailable) {
    let is_logged = matches!(&*state.borrow(), State::Down(logged) if *logged == reason);
    if !is_logged {
        tracing::warn!(reason = reason.reason, "no connection to the event store");
    }
    state.send_replace(State::Down(reason));
}

/// Provides the generation to calls until it must be replaced. Returns how long it lasted: the backoff stays long for a
/// server that accepts connections and then breaks them.
async fn serve_until_broken(
    generation: Generation,
    settings: &Settings,
    state: &watch::Sender<State>,
) -> Duration {
    let since = Instant::now();
    let generation = Arc::new(generation);
    state.send_replace(State::Up(Arc::clone(&generation)));
    tokio::select! {
        () = generation.broken() => {}
        () = probe_for_ever(&generation, settings.keep_alive) => {}
    }
    since.elapsed()
}

/// Probes the server at every interval of the keep-alive, and after answers that it is busy or not ready. A node that was
/// cut off from its cluster, or leads it no longer, answers pings and keeps sessions and subscriptions open: only a call
/// that requires the leader shows it.
async fn probe_for_ever(generation: &Generation, keep_alive: Option<KeepAlive>) {
    let interval = keep_alive.map_or(Duration::MAX, |keep_alive| keep_alive.interval);
    loop {
        // Either the time is over or the server is suspected.
        let _ = timeout(interval, generation.suspected()).await;
        let answer = timeout(PROBE_TIMEOUT, generation.probe()).await;
        let silent = || Err(Failure::Lost("no answer to a probe".to_owned()));
        if let Err(failure) = answer.unwrap_or_else(|_| silent()) {
            generation.observe(&failure);
        }
        sleep(BETWEEN_PROBES).await;
    }
}

async fn connect(settings: &Arc<Settings>) -> Result<Generation, Unavailable> {
    match timeout(CONNECT_TIMEOUT, Generation::connect(settings)).await {
        Ok(outcome) => outcome.map_err(|error| Unavailable::new(error.to_string())),
        Err(_) => Err(Unavailable::new("no answer while connecting")),
    }
}
