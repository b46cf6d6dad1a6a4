//! What becomes of the messages of one batch.

use super::Run;
use crate::domain::UserId;
use crate::integration::consumer::{bury, topology};
use crate::integration::message::IntegrationEvent;
use crate::projection::names::Doubt;
use crate::projection::repair::Verified;
use crate::projection::view::Outcome;
use messaging::Delivery;
use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;

/// After so many attempts that the process did not survive, a message is not tried again.
const MOST_ATTEMPTS: i64 = 3;

const NOT_IN_LOG: &str = "the log has no such event";

/// A batch on its way; it is tried again as a whole, but nothing goes to the dead queue twice.
pub(super) struct WorkingOff<'a> {
    queue: &'a str,
    deliveries: &'a [Delivery],
    /// The places of those that lie in the dead queue.
    dead: HashSet<usize>,
}

impl<'a> WorkingOff<'a> {
    pub(super) fn new(queue: &'a str, deliveries: &'a [Delivery]) -> Self {
        Self {
            queue,
            deliveries,
            dead: HashSet::new(),
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
    /// Messages that come for the first time are applied together, others one by one. Answers whether none was left to
    /// the next process.
    pub(super) async fn work_off(&self, batch: &mut WorkingOff<'_>) -> anyhow::Result<bool> {
        let mut together = Together::default();
        for (place, delivery) in batch.deliveries.iter().enumerate() {
            if self.shutdown.is_cancelled() {
                return Ok(false);
            }
            match IntegrationEvent::decode(delivery) {
                _ if batch.dead.contains(&place) => {}
                Err(reason) => self.bury(batch, place, &reason.to_string()).await?,
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

    /// The attempt is counted before it is made. One that ends in an error was survived, and does not count. A deletion
    /// is tried for ever, also after it was applied: its first attempt may have ended before the log was emptied.
    async fn apply_redelivered(
        &self,
        batch: &mut WorkingOff<'_>,
        place: usize,
        event: IntegrationEvent,
    ) -> anyhow::Result<()> {
        let counted = (event.user, event.revision);
        let mut alone = Together::default();
        if event.is_deletion() {
            alone.push(place, event);
            return self.apply(batch, alone).await;
        }
        if self.view().attempts(counted).await? >= MOST_ATTEMPTS {
            return self.give_up(batch, place, &event).await;
        }
        self.view().count_attempt(counted).await?;
        alone.push(place, event);
        let applied = self.apply(batch, alone).await;
        self.view().discount_attempt(counted).await?;
        applied
    }

    /// Holds the user of a message that was tried too often, unless anybody can have written it.
    async fn give_up(
        &self,
        batch: &mut WorkingOff<'_>,
        place: usize,
        event: &IntegrationEvent,
    ) -> anyhow::Result<()> {
        if !self.repair.is_in_log(event).await? {
            return self.bury(batch, place, NOT_IN_LOG).await;
        }
        let standing = self.view().standing(event.user).await?;
        if !standing.held && standing.revision < Some(event.revision) {
            let reason = "it was tried three times and never finished";
            self.view().hold(event.user, event.revision, reason).await?;
        }
        Ok(())
    }

    async fn apply(&self, batch: &mut WorkingOff<'_>, together: Together) -> anyhow::Result<()> {
        let Together { places, events } = together;
        let mut readable = Vec::with_capacity(events.len());
        let mut applied = Vec::with_capacity(events.len());
        let mut open = Vec::new();
        let verified = self.repair.verify(&events).await?;
        for (message, verified) in places.into_iter().zip(&events).zip(verified) {
            match verified {
                Verified::Event(event) => {
                    readable.push(event);
                    applied.push(message);
                }
                Verified::OnlyInLog => open.push(message),
                Verified::Forged(Doubt::Bare) => self.bury(batch, message.0, NOT_IN_LOG).await?,
                Verified::Forged(doubt) => {
                    let reason = format!("{doubt}; {NOT_IN_LOG}");
                    self.bury(batch, message.0, &reason).await?;
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

    /// Reads the log of users whose events do not follow on what is applied.
    async fn read_log(
        &self,
        batch: &mut WorkingOff<'_>,
        open: &[(usize, &IntegrationEvent)],
    ) -> anyhow::Result<()> {
        let users: BTreeSet<UserId> = open.iter().map(|(_, event)| event.user).collect();
        if users.is_empty() {
            return Ok(());
        }
        let mut next = BTreeMap::new();
        for (user, standing) in self.view().standings(&users).await? {
            next.insert(user, standing.revision.map_or(0, |revision| revision + 1));
        }
        let caught = self.repair.catch_up_all(users, false).await?;
        for (place, event) in open {
            let standing = caught.standing(event.user);
            let waits = standing.held || caught.lost.contains_key(&event.user);
            if waits {
                continue;
            }
            if standing.revision < Some(event.revision) {
                self.bury(batch, *place, NOT_IN_LOG).await?;
            } else if !standing.is_final()
                && let Some(next) = next.get_mut(&event.user)
            {
                self.note_gap(event, *next);
                *next = event.revision.saturating_add(1).max(*next);
            }
        }
        Ok(())
    }

    /// What lies between the last event that came and this one was read from the log in the queue's place.
    fn note_gap(&self, event: &IntegrationEvent, next: u64) {
        self.late.delivered((event.user, event.revision));
        if next < event.revision {
            let gaps = self.gaps.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(user = %event.user, gaps, "a gap was filled from the log");
            self.late.expect(event.user, next..event.revision);
        }
    }

    /// Whatever keeps a message from its dead queue may be that an operator deleted that queue: it is declared again for
    /// the next attempt.
    async fn bury(
        &self,
        batch: &mut WorkingOff<'_>,
        place: usize,
        reason: &str,
    ) -> anyhow::Result<()> {
        let queue = batch.queue;
        tracing::warn!(queue, reason, "a message goes to the dead queue");
        let buried = bury(&self.dead_letters, queue, &batch.deliveries[place], reason).await;
        if let Err(error) = buried {
            self.broker.declare(&topology()).await?;
            return Err(error.into());
        }
        batch.dead.insert(place);
        Ok(())
    }
}
