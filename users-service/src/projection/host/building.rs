//! Builds a generation from the log.

use super::Host;
use crate::projection::health::set;
use crate::projection::holds;
use crate::projection::repair::Repair;
use jittered_backoff::Backoff;
use tokio_util::sync::CancellationToken;

/// How often the rest of the log is read before readers change. Each time less is left.
const ROUNDS: u32 = 2;

impl Host {
    /// Builds until that is done, and lets readers change. What is done is kept when the process ends.
    pub(super) async fn build(&self, repair: &Repair, stop: &CancellationToken) {
        let mut backoff = Backoff::default();
        loop {
            let building = self.build_once(repair);
            let failed = match stop.run_until_cancelled(building).await {
                None => return,
                Some(Ok(())) => None,
                Some(Err(error)) => Some(format!("{error:#}")),
            };
            let Some(reason) = failed else {
                set(&self.building, Ok(()));
                return;
            };
            let generation = repair.view().generation().number();
            tracing::warn!(generation, error = reason, "a generation cannot be built");
            set(
                &self.building,
                Err(format!("generation {generation}: {reason}")),
            );
            stop.run_until_cancelled(backoff.pause()).await;
        }
    }

    async fn build_once(&self, repair: &Repair) -> anyhow::Result<()> {
        let view = repair.view();
        let generation = view.generation();
        generation.create(view.projection()).await?;
        holds::restore_dropped(repair.store(), view).await?;
        let queues = generation.queues();
        self.broker.declare(&queues.topology()).await?;
        fail::fail_point!("bound-not-built", |_| std::process::abort());
        self.complete(repair).await?;
        for _ in 0..ROUNDS {
            // Whatever waits in the queues was stored before, so the log has it.
            self.broker
                .purge(&queues.queues().collect::<Vec<_>>())
                .await?;
            self.complete(repair).await?;
        }
        fail::fail_point!("built-not-switched", |_| std::process::abort());
        let now = self.clock.now();
        let (read_model, number) = (generation.read_model(), generation.number());
        self.registry.switch(read_model, number, now).await?;
        fail::fail_point!("switched-not-projected", |_| std::process::abort());
        tracing::info!(
            read_model,
            generation = number,
            "readers use another generation"
        );
        Ok(())
    }

    /// Applies everything up to the end of the log, whether or not it is published.
    async fn complete(&self, repair: &Repair) -> anyhow::Result<()> {
        let end = self.store.log_end().await?;
        repair.disbelieve_beyond(end).await?;
        match end {
            Some(end) => repair.complete(end).await,
            None => Ok(()),
        }
    }
}
