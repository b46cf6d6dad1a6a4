//! One route to the id service, which is closed while it hangs.
//!
//! Invariant: after a request has timed out, no other request takes this route until a probe in the background gets ids.
//! So when the broker or the service stops answering, only the request in flight waits.

use super::{FetchError, IdService};
use crate::domain::UserId;
use jittered_backoff::Backoff;
use std::sync::Arc;
use tokio_util::task::AbortOnDropHandle;

pub(super) struct Route {
    service: Arc<dyn IdService>,
    /// The probe ends when the route is open again.
    probe: Option<AbortOnDropHandle<()>>,
}

impl Route {
    pub(super) fn new(service: Box<dyn IdService>) -> Self {
        Self {
            service: service.into(),
            probe: None,
        }
    }

    /// Fetches `count` ids above `after`. If `after` is too far ahead of the service's clock, a wrong clock made the last id.
    /// Then it fetches ids without `after`, and the order of ids breaks once.
    pub(super) async fn fetch(
        &mut self,
        count: usize,
        after: Option<UserId>,
    ) -> Result<Vec<UserId>, FetchError> {
        let answer = self.request(count, after).await;
        if let Err(FetchError::AfterTooFar) = answer {
            tracing::warn!(
                "the last id is too far ahead of the clock; the order of ids breaks here"
            );
            return self.request(count, None).await;
        }
        answer
    }

    async fn request(
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

/// Requests an id again and again, and returns when the service answers. The id is not used.
async fn probe(service: Arc<dyn IdService>) {
    tracing::warn!("a route to the id service does not answer and is closed");
    let mut backoff = Backoff::default();
    loop {
        backoff.pause().await;
        if service.fetch(1, None).await.is_ok() {
            tracing::info!("a route to the id service answers and is open again");
            return;
        }
    }
}
