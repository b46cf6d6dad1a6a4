//! One way to the service that makes ids, and whether it is known to hang.
//!
//! Invariant: after a request over it was not answered in time, no other is made until a probe in the background got
//! ids. So only the request in flight waits when the broker, or the service, stops answering.

use super::{FetchError, IdService};
use crate::domain::UserId;
use jittered_backoff::Backoff;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

pub(super) struct Way {
    service: Arc<dyn IdService>,
    /// It ends when the way is open again.
    probe: Option<AbortOnDropHandle<()>>,
}

impl Way {
    pub(super) fn new(service: Box<dyn IdService>) -> Self {
        Self {
            service: service.into(),
            probe: None,
        }
    }

    /// Asks for `count` ids above `after`; without `after` where it leads the service's clock too far. Then the last id
    /// came from a clock that was wrong, and the order breaks once.
    pub(super) async fn fetch(
        &mut self,
        count: usize,
        after: Option<UserId>,
    ) -> Result<Vec<UserId>, FetchError> {
        let answer = self.ask(count, after).await;
        if let Err(FetchError::AfterTooFar) = answer {
            tracing::warn!("the last id is ahead of the clock: the order of ids breaks here");
            return self.ask(count, None).await;
        }
        answer
    }

    async fn ask(
        &mut self,
        count: usize,
        after: Option<UserId>,
    ) -> Result<Vec<UserId>, FetchError> {
        if self.is_closed() {
            return Err(FetchError::Closed);
        }
        let mut answer = self.service.fetch(count, after).await;
        if let Ok(ids) = &mut answer {
            ids.retain(|id| Some(*id) > after);
        } else if let Err(FetchError::TimedOut) = answer {
            let probe = tokio::spawn(probe(Arc::clone(&self.service)));
            self.probe = Some(AbortOnDropHandle::new(probe));
        }
        answer
    }

    fn is_closed(&self) -> bool {
        self.probe
            .as_ref()
            .is_some_and(|probe| !probe.is_finished())
    }
}

/// Returns when the service gave an id, which nobody gets.
async fn probe(service: Arc<dyn IdService>) {
    tracing::warn!("a way to ids does not answer and is closed");
    let mut backoff = Backoff::default();
    loop {
        backoff.pause().await;
        if service.fetch(1, None).await.is_ok() {
            tracing::info!("a way to ids answers and is open again");
            return;
        }
    }
}
