//! Calls with a deadline and a bound on their number, repeated while the server does not answer.
//!
//! Every call made through this module is safe to repeat: reads, appends (by their event ids), and deletions (a
//! repeated deletion finds the stream as the first one left it).

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::EventStreams;
use crate::error::Unavailable;
use crate::failure::Failure;
use crate::generation::Generation;
use jittered_backoff::Backoff;

/// The most calls in flight, apart from appends. Further calls wait. A server allows 100 calls on a connection, and
/// subscriptions count towards them.
pub(crate) const CALLS_IN_FLIGHT: usize = 64;
/// The time limit of a call, including waiting and all attempts.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of one attempt, unless the connection string sets another (`defaultDeadline`). It leaves time for a
/// second attempt after a lost answer.
pub(crate) const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(4);
/// The time limit of a readiness check.
const CHECK_TIMEOUT: Duration = Duration::from_secs(2);

impl EventStreams {
    /// Makes one cheap call to the server, for a readiness report. Takes at most 2 s.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] with the reason.
    pub async fn check(&self) -> Result<(), Unavailable> {
        self.connection.fail_if_down()?;
        let probe = async {
            let generation = self.connection.generation().await;
            self.attempt(&generation, generation.probe()).await
        };
        match timeout(CHECK_TIMEOUT, probe).await {
            Ok(answer) => answer.map_err(|failure| Unavailable::new(failure.to_string())),
            Err(_) => Err(self.connection.timed_out()),
        }
    }

    /// Makes the call, and repeats it until the server answers or the time limit is reached. If the server is known to
    /// be down at the start, the call fails at once.
    pub(crate) async fn call<T, E, F>(
        &self,
        permits: &Semaphore,
        call: impl Fn(Arc<Generation>) -> F,
    ) -> Result<T, E>
    where
        E: From<Failure> + From<Unavailable>,
        F: Future<Output = Result<T, Failure>>,
    {
        self.connection.fail_if_down()?;
        let deadline = Instant::now() + CALL_TIMEOUT;
        match timeout_at(deadline, self.repeat(permits, call)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(self.connection.timed_out().into()),
        }
    }

    async fn repeat<T, F>(
        &self,
        permits: &Semaphore,
        call: impl Fn(Arc<Generation>) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let _permit = permits
            .acquire()
            .await
            .expect("the semaphore is never closed");
        let mut backoff = Backoff::default();
        loop {
            let generation = self.connection.generation().await;
            match self
                .attempt(&generation, call(Arc::clone(&generation)))
                .await
            {
                Err(failure) if failure.is_outage() => backoff.pause().await,
                answer => return answer,
            }
        }
    }

    /// Makes one attempt within its time limit, and marks the connection as broken if the failure shows it.
    async fn attempt<T>(
        &self,
        generation: &Generation,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = timeout(self.attempt_timeout, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        if let Err(failure) = &answer {
            generation.observe(failure);
        }
        answer
    }
}
