//! Consumes the queues of the read model, batch by batch, and keeps the view complete.
//!
//! Invariants: a message is acknowledged only when it is applied, was applied before, belongs to a held user, or is in the
//! dead-letter queue. The projector retries it in process and never requeues it, because both ways of requeueing change the
//! order.

mod batch;
mod completeness;

use super::health::{Health, State};
use super::late::{LateDeliveries, PATIENCE};
use super::repair::Repair;
use super::view::View;
use crate::integration::consumer::{ReaderQueues, keep_declared};
use batch::UnfinishedBatch;
use futures::future::join_all;
use jittered_backoff::Backoff;
use messaging::{Broker, Consumer, Delivery, Incoming, Publisher};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const PREFETCH: u16 = 500;
const BATCH: usize = 250;
/// A busy queue gives batches this far apart, so that each is worth its statements.
const BATCH_EVERY: Duration = Duration::from_millis(10);

/// Keeps the read model up to date.
#[derive(Debug)]
pub struct Projector {
    repair: Repair,
    broker: Broker,
    check_every: Duration,
    completeness: Arc<State>,
    deliveries: Arc<State>,
    patience: Duration,
}

impl Projector {
    /// Creates a projector. Any number may run. `check_every` is the interval between two comparisons of the view with the log.
    #[must_use]
    pub fn new(repair: Repair, broker: Broker, check_every: Duration) -> Self {
        Self {
            repair,
            broker,
            check_every,
            completeness: Arc::new(watch::Sender::new(Err("starting".to_owned()))),
            deliveries: Arc::new(watch::Sender::new(Ok(()))),
            patience: PATIENCE,
        }
    }

    /// Gives a queue so much time to deliver an event that was read from the log. The default is a minute.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Reports completeness and lost messages to these.
    pub(super) fn reporting_to(self, (completeness, deliveries): (Arc<State>, Arc<State>)) -> Self {
        Self {
            completeness,
            deliveries,
            ..self
        }
    }

    /// Names a lost message, if there are any. Their events are applied all the same.
    #[must_use]
    pub fn deliveries(&self) -> watch::Receiver<Result<(), String>> {
        self.deliveries.subscribe()
    }

    /// Holds the reason if the view is not compared with the log. Messages are applied all the same.
    #[must_use]
    pub fn completeness(&self) -> watch::Receiver<Result<(), String>> {
        self.completeness.subscribe()
    }

    /// Runs until `shutdown`. `state` holds the reason if messages are not applied.
    ///
    /// # Errors
    /// If the tables cannot be created. The projector retries everything else that fails.
    pub async fn run(&self, state: &State, shutdown: &CancellationToken) -> anyhow::Result<()> {
        let view = self.repair.view();
        view.generation().create(view.projection()).await?;
        let queues = view.generation().queues();
        let topology = queues.topology();
        let run = Run {
            repair: &self.repair,
            broker: &self.broker,
            dead_letters: Publisher::new(self.broker.clone(), topology.clone()),
            queues,
            health: Health::new(state, &self.completeness, queues.queues()),
            check: Notify::new(),
            late: LateDeliveries::new(self.patience),
            gaps: AtomicU64::default(),
            shutdown,
        };
        let partitions = join_all(queues.queues().map(|queue| run.consume(queue)));
        let complete = run.stay_complete(self.check_every);
        let declared = keep_declared(&self.broker, &topology, || run.check.notify_one());
        let declared = shutdown.run_until_cancelled(declared);
        let late = shutdown.run_until_cancelled(run.late.watch(&self.deliveries));
        tokio::join!(partitions, complete, declared, late);
        Ok(())
    }
}

/// State that the loops of one run share.
struct Run<'a> {
    repair: &'a Repair,
    broker: &'a Broker,
    dead_letters: Publisher,
    queues: ReaderQueues,
    health: Health<'a>,
    /// Notified when a queue was declared again, because its messages are lost.
    check: Notify,
    late: LateDeliveries,
    /// The number of gaps that were filled.
    gaps: AtomicU64,
    shutdown: &'a CancellationToken,
}

impl Run<'_> {
    fn view(&self) -> &View {
        self.repair.view()
    }

    async fn consume(&self, queue: String) {
        let consumer = Consumer::new(
            self.broker.clone(),
            self.queues.topology(),
            queue.clone(),
            PREFETCH,
        );
        let mut consumer = consumer.at_most_every(BATCH_EVERY);
        while let Some(incoming) = self
            .shutdown
            .run_until_cancelled(consumer.next(BATCH))
            .await
        {
            match incoming {
                Incoming::Opened { declared_anew } => {
                    self.health.report(&queue, Ok(()));
                    if declared_anew {
                        self.check.notify_one();
                    }
                }
                Incoming::Closed(error) => self.health.report(&queue, Err(&error.into())),
                Incoming::Batch(batch) => {
                    fail::fail_point!("batch-received", |_| std::process::abort());
                    if !self.process_until_done(&queue, &batch.deliveries).await {
                        break;
                    }
                    fail::fail_point!("committed-not-acknowledged", |_| std::process::abort());
                    batch.ack().await;
                }
            }
        }
        consumer.close().await;
    }

    /// Returns whether the whole batch is done. A shutdown ends it between messages and between attempts. It never interrupts
    /// an attempt, because that would count as an attempt that killed the process.
    async fn process_until_done(&self, queue: &str, deliveries: &[Delivery]) -> bool {
        let mut backoff = Backoff::default();
        let mut batch = UnfinishedBatch::new(queue, deliveries);
        loop {
            match self.process(&mut batch).await {
                Ok(done) => {
                    self.health.report(queue, Ok(()));
                    return done;
                }
                Err(error) => self.health.report(queue, Err(&error)),
            }
            let pause = self.shutdown.run_until_cancelled(backoff.pause());
            if pause.await.is_none() {
                return false;
            }
        }
    }
}
