//! A call that is bounded in number and in time, and repeated while the server does not answer.
//!
//! Everything that goes through here may be repeated: reads, and deletions (a repeated one finds the stream as the first
//! one left it).

use std::future::Future;
use std::time::Duration;

use eventstore::{Client, Error};
use tokio::time::{Instant, timeout, timeout_at};

use crate::EventStreams;
use crate::error::{Unavailable, is_outage};
use crate::generation::Generation;
use jittered_backoff::Backoff;

/// How many calls other than appends may be in flight; more wait.
pub(crate) const CALLS: usize = 24;
/// How long a call may take in all, waiting and repeating included.
pub(crate) const CALL_WITHIN: Duration = Duration::from_secs(10);
/// How long one attempt of a call may take, so that a lost answer leaves time for another.
const ATTEMPT_WITHIN: Duration = Duration::from_secs(4);
/// How long the question behind a readiness report may take.
const CHECK_WITHIN: Duration = Duration::from_secs(2);

impl EventStreams {
    /// Asks the server one cheap question, for a readiness report; answers within 2 s.
    ///
    /// # Errors
    ///
    /// [`Unavailable`] with what is wrong.
    pub async fn check(&self) -> Result<(), Unavailable> {
        let question = async {
            let generation = self.connection.generation().await;
            attempt(&generation, generation.probe()).await
        };
        match timeout(CHECK_WITHIN, question).await {
            Ok(answer) => answer.map_err(|error| Unavailable::new(error.to_string())),
            Err(_) => Err(self.connection.why()),
        }
    }

    pub(crate) async fn call<T, E, F>(&self, call: impl Fn(Client) -> F) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<Error> + From<Unavailable>,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let deadline = Instant::now() + CALL_WITHIN;
        match timeout_at(deadline, self.repeat(call)).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(self.connection.why().into()),
        }
    }

    async fn repeat<T, F>(&self, call: impl Fn(Client) -> F) -> Result<T, Error>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, Error>> + Send + 'static,
    {
        let _permit = self.calls.acquire().await.expect("never closed");
        let mut backoff = Backoff::default();
        loop {
            let generation = self.connection.generation().await;
            match attempt(&generation, generation.run(&call)).await {
                Err(error) if is_outage(&error) => backoff.pause().await,
                answer => return answer,
            }
        }
    }
}

/// One attempt within its bound; an outage is reported to the supervisor.
pub(crate) async fn attempt<T>(
    generation: &Generation,
    call: impl Future<Output = Result<T, Error>>,
) -> Result<T, Error> {
    let answer = timeout(ATTEMPT_WITHIN, call).await;
    let answer = answer.unwrap_or(Err(Error::DeadlineExceeded));
    if let Err(error) = &answer
        && is_outage(error)
    {
        generation.report_broken();
    }
    answer
}
