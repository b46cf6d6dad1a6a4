//! Consumes the queues of the read model, batch by batch.
//!
//! Invariants: a message is acknowledged only when it is applied, was applied before, waits in the log with its held
//! user, or lies in the dead queue; it is tried again in process, never sent back, because both ways of sending back
//! change the order.

use super::late::LateDeliveries;
use super::repair::Repair;
use super::troubles::{COMPLETENESS, State, Troubles};
use super::view::{Outcome, View};
use crate::integration::consumer::{PARTITIONS, bury, queue, topology};
use crate::integration::message::IntegrationEvent;
use crate::integration::publisher::published_up_to;
use event_streams::Position;
use futures::future::join_all;
use jittered_backoff::Backoff;
use messaging::{Broker, Consumer, Delivery, Incoming, Publisher};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const PREFETCH: u16 = 500;
const BATCH: usize = 250;
/// After so many attempts that the process did not survive, a message is not tried again.
const MOST_ATTEMPTS: i64 = 3;

/// How often the view is compared with the log at once, at start or when a queue was declared anew: once more, because
/// the publisher's checkpoint comes a little after what it confirms.
const URGENT: u32 = 2;
/// How long after the first.
const SOON: Duration = Duration::from_secs(5);

/// Keeps the read model up to date.
#[derive(Debug)]
pub struct Projector {
    repair: Repair,
    broker: Broker,
    check_every: Duration,
    completeness: State,
}

impl Projector {
    /// A projector; any number may run. `check_every` is how often the view is compared with the log.
    #[must_use]
    pub fn new(repair: Repair, broker: Broker, check_every: Duration) -> Self {
        Self {
            repair,
            broker,
            check_every,
            completeness: watch::Sender::new(Err("starting".to_owned())),
        }
    }

    /// Why the view is not compared with the log, if it is not; messages are applied all the same.
    #[must_use]
    pub fn completeness(&self) -> watch::Receiver<Result<(), String>> {
        self.completeness.subscribe()
    }

    /// Runs until `shutdown`. `state` says why messages are not applied, if they are not.
    ///
    /// # Errors
    /// None; what fails is tried again.
    pub async fn run(&self, state: &State, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let run = Run {
            repair: &self.repair,
            broker: &self.broker,
            dead_letters: Publisher::new(self.broker.clone(), topology()),
            troubles: Troubles::new(state, &self.completeness),
            check: Notify::new(),
            late: LateDeliveries::default(),
            gaps: AtomicU64::default(),
            shutdown,
        };
        let partitions = join_all((0..PARTITIONS).map(|partition| run.consume(queue(partition))));
        let complete = run.stay_complete(self.check_every);
        tokio::join!(partitions, complete);
        Ok(())
    }
}

/// What the loops of one run share.
struct Run<'a> {
    repair: &'a Repair,
    broker: &'a Broker,
    dead_letters: Publisher,
    troubles: Troubles<'a>,
    /// A queue was declared anew: what was in it is lost.
    check: Notify,
    late: LateDeliveries,
    /// How many gaps were filled.
    gaps: AtomicU64,
    shutdown: &'a CancellationToken,
}

impl Run<'_> {
    fn view(&self) -> &View {
        self.repair.view()
    }

    async fn consume(&self, queue: String) {
        let mut consumer = Consumer::new(self.broker.clone(), topology(), queue.clone(), PREFETCH);
        while let Some(incoming) = self
            .shutdown
            .run_until_cancelled(consumer.next(BATCH))
            .await
        {
            match incoming {
                Incoming::Opened { declared_anew } => {
                    self.troubles.tell(&queue, Ok(()));
                    if declared_anew {
                        self.check.notify_one();
                    }
                }
                Incoming::Closed(error) => self.troubles.tell(&queue, Err(&error.into())),
                Incoming::Batch(batch) => {
                    if !self.work_off_surely(&queue, &batch.deliveries).await {
                        break;
                    }
                    batch.ack().await;
                }
            }
        }
        consumer.close().await;
    }

    /// Answers whether all is done. A shutdown ends it between messages and between attempts, never in an attempt,
    /// which would count as one that the process did not survive.
    async fn work_off_surely(&self, queue: &str, deliveries: &[Delivery]) -> bool {
        let mut backoff = Backoff::default();
        loop {
            match self.work_off(queue, deliveries).await {
                Ok(done) => {
                    self.troubles.tell(queue, Ok(()));
                    return done;
                }
                Err(error) => self.troubles.tell(queue, Err(&error)),
            }
            let pause = self.shutdown.run_until_cancelled(backoff.pause());
            if pause.await.is_none() {
                return false;
            }
        }
    }

    /// Messages that come for the first time are applied together, others one by one. Answers whether none was left to
    /// the next process.
    async fn work_off(&self, queue: &str, deliveries: &[Delivery]) -> anyhow::Result<bool> {
        let mut together = Batch::default();
        for delivery in deliveries {
            if self.shutdown.is_cancelled() {
                return Ok(false);
            }
            match IntegrationEvent::decode(delivery) {
                Err(reason) => self.bury(queue, delivery, &reason.to_string()).await?,
                Ok(event) if delivery.redelivered => {
                    self.apply(queue, std::mem::take(&mut together)).await?;
                    self.apply_redelivered(queue, delivery, event).await?;
                }
                Ok(event) => together.push(delivery, event),
            }
        }
        self.apply(queue, together).await?;
        Ok(true)
    }

    /// The attempt is counted before it is made. One that ends in an error was survived, and does not count. A deletion
    /// is tried for ever, also after it was applied: its first attempt may have ended before the log was emptied.
    async fn apply_redelivered(
        &self,
        queue: &str,
        delivery: &Delivery,
        event: IntegrationEvent,
    ) -> anyhow::Result<()> {
        let counted = (event.user, event.revision);
        let is_deletion = event.is_deletion();
        let mut alone = Batch::default();
        alone.push(delivery, event);
        if is_deletion {
            return self.apply(queue, alone).await;
        }
        let (user, revision) = counted;
        let standing = self.view().standing(user).await?;
        if standing.held || standing.revision >= Some(revision) {
            self.late.delivered(counted);
            return Ok(());
        }
        if self.view().attempts(counted).await? >= MOST_ATTEMPTS {
            let reason = "it was tried three times and never finished";
            return Ok(self.view().hold(user, revision, reason).await?);
        }
        self.view().count_attempt(counted).await?;
        let applied = self.apply(queue, alone).await;
        self.view().discount_attempt(counted).await?;
        applied
    }

    async fn apply(&self, queue: &str, batch: Batch<'_>) -> anyhow::Result<()> {
        if batch.events.is_empty() {
            return Ok(());
        }
        let resealed = self.repair.reseal(&batch.events).await?;
        let readable: Vec<_> = resealed
            .iter()
            .filter_map(|event| event.clone().ok())
            .collect();
        let mut outcomes = self.view().apply(&readable, false).await?.into_iter();
        for ((event, resealed), delivery) in batch.events.iter().zip(resealed).zip(batch.deliveries)
        {
            let outcome = resealed.map(|_| outcomes.next().unwrap_or(Outcome::Gap));
            match outcome {
                Ok(Outcome::Applied | Outcome::Duplicate | Outcome::Held) => {
                    self.late.delivered((event.user, event.revision));
                }
                Ok(Outcome::Gap) => {
                    if !self.fill_gap(event).await? {
                        self.bury(queue, delivery, "the log has no such event")
                            .await?;
                    }
                }
                Err(unreadable) => {
                    // If the log has such an event whose key is lost, this fails, and goes on failing.
                    self.repair.catch_up(event.user, false).await?;
                    self.bury(queue, delivery, &unreadable.to_string()).await?;
                }
            }
        }
        Ok(())
    }

    /// Reads from the log what is missing before the event, and the event itself; whether the log has it.
    async fn fill_gap(&self, event: &IntegrationEvent) -> anyhow::Result<bool> {
        let before = self.view().standing(event.user).await?;
        let after = self.repair.catch_up(event.user, false).await?;
        if before.revision < after.revision && !after.held {
            let gaps = self.gaps.fetch_add(1, Ordering::Relaxed) + 1;
            tracing::warn!(user = %event.user, gaps, "a gap was filled from the log");
            self.late.expect(event, before.revision);
        }
        Ok(after.held || after.revision >= Some(event.revision))
    }

    async fn bury(&self, queue: &str, delivery: &Delivery, reason: &str) -> anyhow::Result<()> {
        tracing::warn!(queue, reason, "a message goes to the dead queue");
        Ok(bury(&self.dead_letters, queue, delivery, reason).await?)
    }

    /// Compares the view with the log: at start and when a queue was declared anew up to what is published now, at
    /// intervals up to what was published one interval ago, which the queues have had time to deliver.
    async fn stay_complete(&self, every: Duration) {
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
        let now = published_up_to(self.repair.store()).await?;
        let up_to = if at_once { now } else { *earlier };
        if let Some(up_to) = up_to {
            self.repair.complete(up_to).await?;
        }
        *earlier = now;
        Ok(())
    }
}

/// Messages to apply in one transaction.
#[derive(Default)]
struct Batch<'a> {
    deliveries: Vec<&'a Delivery>,
    events: Vec<IntegrationEvent>,
}

impl<'a> Batch<'a> {
    fn push(&mut self, delivery: &'a Delivery, event: IntegrationEvent) {
        self.deliveries.push(delivery);
        self.events.push(event);
    }
}
