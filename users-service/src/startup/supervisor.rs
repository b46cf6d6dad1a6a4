//! Roles that run in the background: each is run again when it fails, and readiness says why it does not work.

use jittered_backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use web::{Importance, Readiness};

/// After how long without a failure the next one is waited for as little as the first.
const STEADY: Duration = Duration::from_secs(30);

/// What a role says of itself: why it does not work, if it does not.
pub(super) type State = watch::Sender<Result<(), String>>;

/// Runs roles.
pub(super) struct Supervisor {
    readiness: Readiness,
    /// Of the roles it runs.
    importance: Importance,
    shutdown: CancellationToken,
    roles: JoinSet<()>,
}

impl Supervisor {
    pub(super) fn new(
        readiness: Readiness,
        importance: Importance,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            readiness,
            importance,
            shutdown,
            roles: JoinSet::new(),
        }
    }

    /// Runs a role again and again until shutdown. It tells its state itself when it works; that it failed is told for it.
    pub(super) fn run<R, F>(&mut self, name: &'static str, role: R)
    where
        R: Fn(Arc<State>, CancellationToken) -> F + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (state, told) = watch::channel(Err("starting".to_owned()));
        self.tell(self.importance, name, told);
        let supervised = supervise(name, role, Arc::new(state), self.shutdown.clone());
        self.roles.spawn(supervised);
    }

    /// Has readiness tell a state that a role keeps beside its own: with an error in it the process is degraded, never more.
    pub(super) fn report(&mut self, name: &'static str, told: watch::Receiver<Result<(), String>>) {
        self.tell(Importance::Useful, name, told);
    }

    fn tell(
        &mut self,
        importance: Importance,
        name: &'static str,
        told: watch::Receiver<Result<(), String>>,
    ) {
        let readiness = std::mem::take(&mut self.readiness);
        self.readiness = readiness.with(importance, name, move || {
            let told = told.borrow().clone();
            async move { told }
        });
    }

    pub(super) fn supervised(self) -> (Readiness, JoinSet<()>) {
        (self.readiness, self.roles)
    }
}

async fn supervise<R, F>(name: &str, role: R, state: Arc<State>, shutdown: CancellationToken)
where
    R: Fn(Arc<State>, CancellationToken) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        // A task of its own, so that a role that panics fails alone.
        let ended = tokio::spawn(role(Arc::clone(&state), shutdown.clone())).await;
        if shutdown.is_cancelled() {
            return;
        }
        let why = match ended {
            Ok(Ok(())) => "it ended".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        if state.borrow().as_ref().err() != Some(&why) {
            tracing::warn!(role = name, error = why, "a role failed and is run again");
        }
        let _ = state.send_replace(Err(why));
        if started.elapsed() > STEADY {
            backoff.reset();
        }
        shutdown.run_until_cancelled(backoff.pause()).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    async fn supervised_until_it_works(role: fn(u32) -> anyhow::Result<()>) {
        let shutdown = CancellationToken::new();
        let (state, mut told) = watch::channel(Err("starting".to_owned()));
        let runs = Arc::new(AtomicU32::new(0));
        let role = move |state: Arc<State>, shutdown: CancellationToken| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            async move {
                role(run)?;
                let _ = state.send_replace(Ok(()));
                shutdown.cancelled().await;
                Ok(())
            }
        };
        let supervising = supervise("test", role, Arc::new(state), shutdown.clone());
        let supervising = tokio::spawn(supervising);
        told.wait_for(|state| state.as_ref().is_err_and(|why| why != "starting"))
            .await
            .unwrap();
        told.wait_for(Result::is_ok).await.unwrap();
        shutdown.cancel();
        supervising.await.unwrap();
    }

    #[tokio::test]
    async fn a_role_that_fails_says_so_and_is_run_again() {
        supervised_until_it_works(|run| {
            anyhow::ensure!(run > 1, "not yet");
            Ok(())
        })
        .await;
    }

    #[tokio::test]
    async fn a_role_that_panics_is_run_again() {
        supervised_until_it_works(|run| {
            assert!(run > 0, "the first run panics on purpose");
            Ok(())
        })
        .await;
    }
}
