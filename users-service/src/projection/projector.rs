//! Consumes the queues of the read model, batch by batch, and keeps the view complete.
//!
//! Invariants: a message is acknowledged only when it is applied, was applied before, waits in the log with its user, or
//! lies in the dead queue; it is tried again in process, never sent back, because both ways of sending back change the
//! order.

mod batch;
mod completeness;

use super::late::LateDeliveries;
use super::repair::Repair;
use super::troubles::{State, Troubles};
use super::view::View;
use crate::integration::consumer::{PARTITIONS, keep_declared, queue, topology};
use batch::WorkingOff;
use futures::future::join_all;
use jittered_backoff::Backoff;
use messaging::{Broker, Consumer, Delivery, Incoming, Publisher};
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

const PREFETCH: u16 = 500;
const BATCH: usize = 250;
/// A busy queue gives batches this far apart, so that each is worth its statements.
const BATCH_EVERY: Duration = Duration::from_millis(5);

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
        let declared = keep_declared(&self.broker, || run.check.notify_one());
        let declared = shutdown.run_until_cancelled(declared);
        tokio::join!(partitions, complete, declared);
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
        let consumer = Consumer::new(self.broker.clone(), topology(), queue.clone(), PREFETCH);
        let mut consumer = consumer.at_most_every(BATCH_EVERY);
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
        let mut batch = WorkingOff::new(queue, deliveries);
        loop {
            match self.work_off(&mut batch).await {
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
}
