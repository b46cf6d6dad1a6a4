//! Supervision of background roles. A role that fails is run again, and readiness shows why it does not work.

use jittered_backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use web::{Importance, Readiness};

/// After a run of this length, the pause before the next run is as short as after the first failure.
const STEADY: Duration = Duration::from_secs(30);

/// The health of a role: `Ok`, or the reason why it does not work.
pub(super) type Health = watch::Sender<Result<(), String>>;

/// Supervises roles.
pub(super) struct Supervisor {
    readiness: Readiness,
    /// The importance of the supervised roles.
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

    /// Runs a role again and again until shutdown. The role reports when it works, and the supervisor reports when it failed.
    pub(super) fn run<R, F>(&mut self, name: &'static str, role: R)
    where
        R: Fn(Arc<Health>, CancellationToken) -> F + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        self.run_as(self.importance, name, role);
    }

    /// Runs a role of another importance.
    pub(super) fn run_as<R, F>(&mut self, importance: Importance, name: &'static str, role: R)
    where
        R: Fn(Arc<Health>, CancellationToken) -> F + Send + Sync + 'static,
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let (sender, health) = watch::channel(Err("starting".to_owned()));
        self.add(importance, name, health);
        let supervised = supervise(name, role, Arc::new(sender), self.shutdown.clone());
        self.roles.spawn(supervised);
    }

    /// Adds a second health of a role to readiness. If it is an error, the process is degraded but stays ready.
    pub(super) fn report(
        &mut self,
        name: &'static str,
        health: watch::Receiver<Result<(), String>>,
    ) {
        self.add(Importance::Useful, name, health);
    }

    /// Adds a check to readiness that runs at each request. If it fails, the process is degraded but stays ready.
    pub(super) fn check<F>(
        &mut self,
        name: &'static str,
        check: impl Fn() -> F + Send + Sync + 'static,
    ) where
        F: Future<Output = Result<(), String>> + Send + 'static,
    {
        let readiness = std::mem::take(&mut self.readiness);
        self.readiness = readiness.uses(name, check);
    }

    fn add(
        &mut self,
        importance: Importance,
        name: &'static str,
        health: watch::Receiver<Result<(), String>>,
    ) {
        let readiness = std::mem::take(&mut self.readiness);
        self.readiness = readiness.with(importance, name, move || {
            let health = health.borrow().clone();
            async move { health }
        });
    }

    pub(super) fn supervised(self) -> (Readiness, JoinSet<()>) {
        (self.readiness, self.roles)
    }
}

async fn supervise<R, F>(name: &str, role: R, health: Arc<Health>, shutdown: CancellationToken)
where
    R: Fn(Arc<Health>, CancellationToken) -> F + Send + Sync + 'static,
    F: Future<Output = anyhow::Result<()>> + Send + 'static,
{
    let mut backoff = Backoff::default();
    while !shutdown.is_cancelled() {
        let started = Instant::now();
        // The role runs in a task of its own, so that a panic affects only this role.
        let ended = tokio::spawn(role(Arc::clone(&health), shutdown.clone())).await;
        if shutdown.is_cancelled() {
            return;
        }
        let reason = match ended {
            Ok(Ok(())) => "the role ended".to_owned(),
            Ok(Err(error)) => format!("{error:#}"),
            Err(error) => error.to_string(),
        };
        if health.borrow().as_ref().err() != Some(&reason) {
            tracing::warn!(
                role = name,
                error = reason,
                "a role failed and is run again"
            );
        }
        let _ = health.send_replace(Err(reason));
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
        let (sender, mut health) = watch::channel(Err("starting".to_owned()));
        let runs = Arc::new(AtomicU32::new(0));
        let role = move |health: Arc<Health>, shutdown: CancellationToken| {
            let run = runs.fetch_add(1, Ordering::SeqCst);
            async move {
                role(run)?;
                let _ = health.send_replace(Ok(()));
                shutdown.cancelled().await;
                Ok(())
            }
        };
        let supervising = supervise("test", role, Arc::new(sender), shutdown.clone());
        let supervising = tokio::spawn(supervising);
        health
            .wait_for(|health| health.as_ref().is_err_and(|reason| reason != "starting"))
            .await
            .unwrap();
        health.wait_for(Result::is_ok).await.unwrap();
        shutdown.cancel();
        supervising.await.unwrap();
    }

    #[tokio::test]
    async fn a_role_that_fails_shows_the_reason_and_is_run_again() {
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
