//! A call that is bounded in number and in time, and repeated while the server does not answer.
//!
//! Everything that goes through here may be repeated: reads, appends with their event ids, and deletions (a repeated one
//! finds the stream as the first one left it).

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

/// How many calls other than appends may be in flight; more wait. A server allows 100 calls on a connection, and
/// subscriptions are among them.
pub(crate) const CALLS: usize = 64;
/// How long a call may take in all, waiting and repeating included.
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(10);
/// How long one attempt of a call may take unless the connection string says (`defaultDeadline`), so that a lost answer
/// leaves time for another.
pub(crate) const ATTEMPT_WITHIN: Duration = Duration::from_secs(4);
/// How long the question behind a readiness report may take.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

impl EventStreams {
    /// Asks the server one cheap question, for a readiness report; answers within 2 s.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] with what is wrong.
    pub async fn check(&self) -> Result<(), Unavailable> {
        self.connection.known_to_be_down()?;
        let question = async {
            let generation = self.connection.generation().await;
            self.attempt(&generation, generation.probe()).await
        };
        match timeout(CHECK_WITHIN, question).await {
            Ok(answer) => answer.map_err(|failure| Unavailable::new(failure.to_string())),
            Err(_) => Err(self.connection.why()),
        }
    }

    /// Makes the call, again and again while the server does not answer. A server that is known to be down is not waited
    /// for: only a call that found it up, or not yet known, is repeated until its time is over.
    pub(crate) async fn call<T, E, F>(
        &self,
        permits: &Semaphore,
        call: impl Fn(Arc<Generation>) -> F,
    ) -> Result<T, E>
    where
        E: From<Failure> + From<Unavailable>,
        F: Future<Output = Result<T, Failure>>,
    {
        self.connection.known_to_be_down()?;
        let deadline = Instant::now() + CALL_WITHIN;
        match timeout_at(deadline, self.repeat(permits, call)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(self.connection.why().into()),
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
        let _permit = permits.acquire().await.expect("never closed");
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

    /// One attempt within its bound; the supervisor hears of a connection that is no use any more.
    async fn attempt<T>(
        &self,
        generation: &Generation,
        call: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let answer = timeout(self.attempt_within, call).await;
        let answer = answer.unwrap_or_else(|_| Err(Failure::Lost("no answer in time".to_owned())));
        if let Err(failure) = &answer {
            generation.judge(failure);
        }
        answer
    }
}
