//! The loop that makes up for what the broker lost.

use super::Run;
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
        // A position beyond the end is none: it is neither compared up to nor stored.
        let now = published.min(end);
        let up_to = if at_once { now } else { *earlier };
        if let Some(up_to) = up_to {
            self.repair.complete(up_to).await?;
        }
        *earlier = now;
        Ok(())
    }
}
