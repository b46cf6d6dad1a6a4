//! Applies the messages of one batch.

use super::Run;
use crate::domain::UserId;
use crate::integration::consumer::dead_letter;
use crate::integration::message::IntegrationEvent;
use crate::projection::names::Doubt;
use crate::projection::repair::Verified;
use crate::projection::view::Outcome;
use messaging::Delivery;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;

const NOT_IN_LOG: &str = "the log has no such event";

/// A batch that may be retried as a whole. No message goes to the dead-letter queue twice.
pub(super) struct UnfinishedBatch<'a> {
    queue: &'a str,
    deliveries: &'a [Delivery],
    /// The places of the messages that are in the dead-letter queue.
    dead: HashSet<usize>,
    /// The events whose attempt is counted and not discounted yet, because the database failed in between.
    counted: HashSet<(UserId, u64)>,
}

impl<'a> UnfinishedBatch<'a> {
    pub(super) fn new(queue: &'a str, deliveries: &'a [Delivery]) -> Self {
        Self {
            queue,
            deliveries,
            dead: HashSet::new(),
            counted: HashSet::new(),
        }
    }
}

/// Messages to apply in one transaction, and their places in the batch.
#[derive(Default)]
struct Together {
    places: Vec<usize>,
    events: Vec<IntegrationEvent>,
}

impl Together {
    fn push(&mut self, place: usize, event: IntegrationEvent) {
        self.places.push(place);
        self.events.push(event);
    }
}

impl Run<'_> {
    /// Applies messages that were not delivered before together, and the others one by one. Returns false if a shutdown left
    /// some to the next process.
    pub(super) async fn process(&self, batch: &mut UnfinishedBatch<'_>) -> anyhow::Result<bool> {
        let mut together = Together::default();
        for (place, delivery) in batch.deliveries.iter().enumerate() {
            if self.shutdown.is_cancelled() {
                return Ok(false);
            }
            match IntegrationEvent::decode(delivery) {
                _ if batch.dead.contains(&place) => {}
                Err(reason) => self.dead_letter(batch, place, &reason.to_string()).await?,
                Ok(event) if delivery.redelivered => {
                    self.apply(batch, std::mem::take(&mut together)).await?;
                    self.apply_redelivered(batch, place, event).await?;
                }
                Ok(event) => together.push(place, event),
            }
        }
        self.apply(batch, together).await?;
        Ok(true)
    }

    /// Counts the attempt before it is made. The process has survived an attempt that ends in an error, so such an attempt
    /// does not count, even if the database fails before it is discounted. A deletion is retried for ever, even after it was
    /// applied, because its first attempt may have ended before the write-ahead log was emptied.
    async fn apply_redelivered(
        &self,
        batch: &mut UnfinishedBatch<'_>,
        place: usize,
        event: IntegrationEvent,
    ) -> anyhow::Result<()> {
        let counted = (event.user, event.revision);
        let mut alone = Together::default();
        if event.is_deletion() {
            alone.push(place, event);
            return self.apply(batch, alone).await;
        }
        let begun = self.view().begin_attempt(counted, &mut batch.counted);
        if !begun.await? {
            return self.give_up(batch, place, &event).await;
        }
        alone.push(place, event);
        let applied = self.apply(batch, alone).await;
        match applied {
            Ok(()) => self.view().forget_attempts(counted).await?,
            Err(_) => self.view().discount_attempt(counted).await?,
        }
        batch.counted.remove(&counted);
        applied
    }

    /// Holds the user of a message that was tried too often. A message that the log does not confirm goes to the dead-letter
    /// queue instead.
    async fn give_up(
        &self,
        batch: &mut UnfinishedBatch<'_>,
        place: usize,
        event: &IntegrationEvent,
    ) -> anyhow::Result<()> {
        if !self.repair.is_in_log(event).await? {
            return self.dead_letter(batch, place, NOT_IN_LOG).await;
        }
        let event = (event.user, event.revision);
        Ok(self.view().give_up(event).await?)
    }

    async fn apply(
        &self,
        batch: &mut UnfinishedBatch<'_>,
        together: Together,
    ) -> anyhow::Result<()> {
        let Together { places, events } = together;
        let mut readable = Vec::with_capacity(events.len());
        let mut applied = Vec::with_capacity(events.len());
        let mut open = Vec::new();
        let verified = self.repair.verify(&events).await?;
        for (message, verified) in places.into_iter().zip(&events).zip(verified) {
            match verified {
                Verified::Event(event) => {
                    fail::fail_point!(&format!("{}-{}", self.queues.read_model, event.id), |_| {
                        std::process::abort()
                    });
                    readable.push(event);
                    applied.push(message);
                }
                Verified::OnlyInLog => open.push(message),
                Verified::Forged(Doubt::Bare) => {
                    self.dead_letter(batch, message.0, NOT_IN_LOG).await?;
                }
                Verified::Forged(doubt) => {
                    let reason = format!("{doubt}; {NOT_IN_LOG}");
                    self.dead_letter(batch, message.0, &reason).await?;
                }
            }
        }
        let outcomes = self.view().apply(readable).await?;
        for (message, outcome) in applied.into_iter().zip(outcomes) {
            match outcome {
                Outcome::Applied | Outcome::Duplicate | Outcome::Held => {
                    self.late.delivered((message.1.user, message.1.revision));
                }
                Outcome::Gap | Outcome::Conflict => open.push(message),
            }
        }
        open.sort_by_key(|(place, _)| *place);
        self.read_log(batch, &open).await
    }

    /// Reads the streams of users whose messages do not follow their rows.
    async fn read_log(
        &self,
        batch: &mut UnfinishedBatch<'_>,
        open: &[(usize, &IntegrationEvent)],
    ) -> anyhow::Result<()> {
        let users: BTreeSet<UserId> = open.iter().map(|(_, event)| event.user).collect();
        if users.is_empty() {
            return Ok(());
        }
        let mut next = BTreeMap::new();
        for (user, standing) in self.view().standings(&users).await? {
            next.insert(user, standing.revision().map_or(0, |revision| revision + 1));
        }
        let caught = self.repair.catch_up_all(users, false).await?;
        for (place, event) in open {
            let standing = caught.standing(event.user);
            let waits = standing.held || caught.lost.contains_key(&event.user);
            if waits {
                continue;
            }
            if standing.revision() < Some(event.revision) {
                self.dead_letter(batch, *place, NOT_IN_LOG).await?;
            } else if !standing.is_final()
                && let Some(next) = next.get_mut(&event.user)
            {
                self.note_gap(event, *next);
                *next = event.revision.saturating_add(1).max(*next);
            }
        }
        Ok(())
    }

    /// Notes that the events between the last delivered one and this one were read from the log.
    fn note_gap(&self, event: &IntegrationEvent, next: u64) {
        self.late.delivered((event.user, event.revision));
        if next < event.revision {
            let gaps = self.gaps.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(user = %event.user, gaps, "a gap was filled from the log");
            self.late.expect(event.user, next..event.revision);
        }
    }

    /// Moves a message to the dead-letter queue. If that fails, an operator may have deleted the queue, so it is declared again
    /// for the next attempt.
    async fn dead_letter(
        &self,
        batch: &mut UnfinishedBatch<'_>,
        place: usize,
        reason: &str,
    ) -> anyhow::Result<()> {
        let queue = batch.queue;
        tracing::warn!(queue, reason, "a message goes to the dead-letter queue");
        let exchange = self.queues.dead_letter_exchange();
        let to = (exchange.as_str(), queue);
        let delivery = &batch.deliveries[place];
        let dead_lettered = dead_letter(&self.dead_letters, to, delivery, reason).await;
        if let Err(error) = dead_lettered {
            self.broker.declare(&self.queues.topology()).await?;
            return Err(error.into());
        }
        batch.dead.insert(place);
        Ok(())
    }
}
