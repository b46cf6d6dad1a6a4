//! The loop that finds and applies events that the broker lost.

use super::Run;
use crate::integration::publisher::published_up_to;
use crate::projection::health::COMPLETENESS;
use event_streams::Position;
use jittered_backoff::Backoff;
use std::time::Duration;

/// How many times the view is compared with the log at once, at start and after a queue was declared again. The second time is
/// needed because the publisher writes its checkpoint a little after its messages are confirmed.
const URGENT: u32 = 2;
/// The pause between these comparisons.
const SOON: Duration = Duration::from_secs(5);

impl Run<'_> {
    /// Compares the view with the log. At start, and after a queue was declared again, it compares up to the current checkpoint
    /// of the publisher. At intervals it compares up to the checkpoint of one interval ago, so that the queues have had time
    /// to deliver.
    pub(super) async fn stay_complete(&self, every: Duration) {
        let mut earlier = None;
        let mut urgent = URGENT;
        let mut backoff = Backoff::default();
        while !self.shutdown.is_cancelled() {
            let checking = self.check_completeness(&mut earlier, urgent > 0);
            let wait = match self.shutdown.run_until_cancelled(checking).await {
                None => return,
                Some(Ok(())) => {
                    self.health.report(COMPLETENESS, Ok(()));
                    backoff.reset();
                    urgent = urgent.saturating_sub(1);
                    if urgent > 0 { every.min(SOON) } else { every }
                }
                Some(Err(error)) => {
                    self.health.report(COMPLETENESS, Err(&error));
                    backoff.step()
                }
            };
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
        // The end is read after the checkpoint, so that a valid checkpoint does not lie beyond it.
        let end = store.log_end().await?;
        self.repair.disbelieve_beyond(end).await?;
        // A position beyond the end is invalid. It is neither used as a bound nor stored.
        let now = published.min(end);
        let up_to = if at_once { now } else { *earlier };
        if at_once {
            self.repair.retry_unknown_types().await?;
        }
        if let Some(up_to) = up_to {
            self.repair.complete(up_to).await?;
        }
        *earlier = now;
        Ok(())
    }
}
