//! The loops that make up for what the broker lost.

use super::Run;
use crate::integration::consumer::topology;
use crate::integration::publisher::published_up_to;
use crate::projection::troubles::COMPLETENESS;
use event_streams::Position;
use jittered_backoff::Backoff;
use std::time::Duration;

/// How often the view is compared with the log at once, at start or when a queue was declared anew: once more, because
/// the publisher's checkpoint comes a little after what it confirms.
const URGENT: u32 = 2;
/// How long after the first.
const SOON: Duration = Duration::from_secs(5);
/// How often the topology is declared again: nobody is told that an operator deleted an exchange or a binding.
const DECLARE_EVERY: Duration = Duration::from_secs(2);

impl Run<'_> {
    /// Compares the view with the log: at start and when a queue was declared anew up to what is published now, at
    /// intervals up to what was published one interval ago, which the queues have had time to deliver.
    pub(super) async fn stay_complete(&self, every: Duration) {
        let mut earlier = None;
        let mut urgent = URGENT;
        let mut backoff = Backoff::default();
        while !self.shutdown.is_cancelled() {
            let checking = self.check_completeness(&mut earlier, urgent > 0);
            let wait = match self.shutdown.run_until_cancelled(checking).await {
                None => return,
                Some(Ok(())) => {
                    self.troubles.tell(COMPLETENESS, Ok(()));
                    backoff.reset();
                    urgent = urgent.saturating_sub(1);
                    if urgent > 0 { every.min(SOON) } else { every }
                }
                Some(Err(error)) => {
                    self.troubles.tell(COMPLETENESS, Err(&error));
                    backoff.step()
                }
            };
            self.late.alarm();
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                () = self.check.notified() => urgent = URGENT,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    async fn check_completeness(
        &self,
        earlier: &mut Option<Position>,
        at_once: bool,
    ) -> anyhow::Result<()> {
        let store = self.repair.store();
        let published = published_up_to(store).await?;
        // Read after it, so that a checkpoint of this moment does not lie beyond it.
        let end = store.log_end().await?;
        self.repair.disbelieve_beyond(end).await?;
        if published > end {
            tracing::warn!(?published, ?end, "the publisher's position is not believed");
        }
        let now = published.min(end);
        let up_to = if at_once { now } else { *earlier };
        if let Some(up_to) = up_to {
            self.repair.complete(up_to).await?;
        }
        *earlier = now;
        Ok(())
    }

    /// Declares the topology now and then. A queue that was missing has lost its messages.
    pub(super) async fn stay_declared(&self) {
        loop {
            let pause = tokio::time::sleep(DECLARE_EVERY);
            if self.shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
            match self.broker.declare(&topology()).await {
                Ok(anew) if anew.is_empty() => {}
                Ok(anew) => {
                    tracing::warn!(?anew, "the topology was not complete and is declared again");
                    self.check.notify_one();
                }
                Err(error) => tracing::debug!(%error, "the topology was not declared again"),
            }
        }
    }
}
