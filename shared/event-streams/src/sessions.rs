//! The append sessions (`BatchAppend` calls kept open), which spare an append the 44 ms that a lone unary append costs
//! without `TCP_NODELAY`.
//!
//! A session carries one append at a time: one that is refused ends its session in the vendor's client, and would take
//! with it the answers to all others. The number of sessions bounds what is in flight (the client's own queues do not).

use std::sync::{Arc, Mutex, PoisonError};

use eventstore::{BatchAppendClient, BatchAppendOptions, Error};
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::generation::Generation;

/// How many appends may be in flight; more wait.
pub(crate) const SESSIONS: usize = 24;

pub(crate) struct Sessions {
    free: Semaphore,
    idle: Mutex<Vec<Session>>,
}

pub(crate) struct Session {
    pub(crate) client: BatchAppendClient,
    pub(crate) generation: Arc<Generation>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.generation.report_ended_session();
    }
}

impl Sessions {
    pub(crate) fn new() -> Self {
        Self {
            free: Semaphore::new(SESSIONS),
            idle: Mutex::new(Vec::new()),
        }
    }

    /// Waits until one more append may be in flight.
    pub(crate) async fn permit(&self) -> SemaphorePermit<'_> {
        self.free.acquire().await.expect("never closed")
    }

    /// An idle session of this generation, or a new one. Those of earlier generations are dropped.
    pub(crate) async fn take(&self, generation: Arc<Generation>) -> Result<Session, Error> {
        if let Some(session) = self.take_idle(&generation) {
            return Ok(session);
        }
        let client = generation.run(open).await?;
        Ok(Session { client, generation })
    }

    fn take_idle(&self, generation: &Arc<Generation>) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.retain(|session| Arc::ptr_eq(&session.generation, generation));
        idle.pop()
    }

    /// Gives back a session whose append was answered with success.
    pub(crate) fn give_back(&self, session: Session) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(session);
    }
}

async fn open(client: eventstore::Client) -> Result<BatchAppendClient, Error> {
    client.batch_append(&BatchAppendOptions::default()).await
}

impl std::fmt::Debug for Sessions {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Sessions").finish_non_exhaustive()
    }
}
