//! Waiting for conditions with a deadline. No other module of the harness sleeps.

use anyhow::{Context, Result, anyhow};
use std::future::Future;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval};

/// Long enough for a loaded two-core machine: only a failing test ever waits this long.
pub const DEADLINE: Duration = Duration::from_secs(90);

const PAUSE: Duration = Duration::from_millis(20);

/// Repeats `check` until it succeeds; fails with its last error after [`DEADLINE`].
pub async fn until<T, F>(what: &str, check: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    until_within(DEADLINE, what, check).await
}

/// The same with a deadline of its own.
pub async fn until_within<T, F>(
    within: Duration,
    what: &str,
    mut check: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + within;
    let mut pause = interval(PAUSE);
    pause.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut last = anyhow!("the check never ran");
    while Instant::now() < deadline {
        pause.tick().await;
        match tokio::time::timeout_at(deadline, check()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => return Err(last).with_context(|| format!("no answer in time: {what}")),
        }
    }
    Err(last).with_context(|| format!("waited in vain: {what}"))
}
