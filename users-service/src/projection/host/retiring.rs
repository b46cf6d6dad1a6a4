//! Deletes a generation that readers do not use any more.

use super::Host;
use crate::integration::consumer::dead_letter_queue;
use crate::read_model::GenerationRecord;

impl Host {
    pub(super) async fn retire(&self, retired: &GenerationRecord) -> anyhow::Result<()> {
        let generation = self.generation(retired)?;
        let queues = generation.queues();
        let names: Vec<_> = queues.queues().collect();
        self.broker.delete(&queues.exchange(), &names).await?;
        let mut empty = Vec::new();
        for dead in names.iter().map(|name| dead_letter_queue(name)) {
            match self.broker.waiting(&dead).await? {
                Some(0) => empty.push(dead),
                Some(waiting) => {
                    tracing::warn!(
                        queue = dead,
                        waiting,
                        "dead letters of a deleted generation stay"
                    );
                }
                None => {}
            }
        }
        if empty.len() == names.len() {
            self.broker
                .delete(&queues.dead_letter_exchange(), &empty)
                .await?;
        }
        generation.delete().await?;
        let (read_model, number) = (generation.read_model(), generation.number());
        self.registry.forget(read_model, number).await?;
        tracing::info!(read_model, generation = number, "a generation was deleted");
        Ok(())
    }
}
