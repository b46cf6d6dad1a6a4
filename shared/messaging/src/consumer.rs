//! Consumes one queue in batches, for as long as it lives.

use crate::broker::{Broker, Unavailable, within};
use crate::message::Delivery;
use crate::topology::{Topology, short};
use futures::{FutureExt, StreamExt};
use jittered_backoff::Backoff;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer as Deliveries};

/// What a consumer has to tell.
#[derive(Debug)]
pub enum Incoming {
    /// The queue is consumed (again). Messages that were not acknowledged come again.
    Opened {
        /// Whether a queue of the topology did not exist, so that messages may have been lost with an earlier one.
        declared_anew: bool,
    },
    /// Messages, in the queue's order.
    Batch(Batch),
}

/// Messages to acknowledge together, never empty.
#[derive(Debug)]
pub struct Batch {
    /// In the queue's order.
    pub deliveries: Vec<Delivery>,
}

impl Batch {
    /// Tells the broker that all of these are done with. A failure needs no answer: they are delivered again.
    pub async fn ack(self) {
        if let Some(last) = self.deliveries.last() {
            let all_until_this = BasicAckOptions { multiple: true };
            if let Err(error) = last.acker.ack(all_until_this).await {
                tracing::debug!(%error, "acknowledgement lost");
            }
        }
    }
}

/// Consumes one queue; reconnects by itself.
#[derive(Debug)]
pub struct Consumer {
    broker: Broker,
    topology: Topology,
    queue: String,
    prefetch: u16,
    open: Option<Open>,
    backoff: Backoff,
}

impl Consumer {
    /// A consumer of `queue`, which `topology` declares. `prefetch` bounds the messages that are delivered and not
    /// acknowledged.
    #[must_use]
    pub fn new(broker: Broker, topology: Topology, queue: String, prefetch: u16) -> Self {
        Self {
            broker,
            topology,
            queue,
            prefetch,
            open: None,
            backoff: Backoff::default(),
        }
    }

    /// Waits, through losses of the broker, for messages and returns up to `limit` of those that are there (at least
    /// one), or says that the queue was opened. May be cancelled without losing a message.
    pub async fn next(&mut self, limit: usize) -> Incoming {
        loop {
            let Some(open) = self.open.as_mut() else {
                match self.open().await {
                    Ok(declared_anew) => return Incoming::Opened { declared_anew },
                    Err(error) => {
                        tracing::warn!(queue = self.queue, %error, "cannot consume");
                        self.backoff.pause().await;
                        continue;
                    }
                }
            };
            if let Some(batch) = open.next_batch(limit).await {
                self.backoff.reset();
                return Incoming::Batch(batch);
            }
            tracing::warn!(queue = self.queue, "consuming was interrupted");
            self.open = None;
            self.backoff.pause().await;
        }
    }

    /// Whether the queue is being consumed now.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.open
            .as_ref()
            .is_some_and(|open| open.channel.status().connected())
    }

    /// Stops and returns when the broker has taken back what was not acknowledged.
    pub async fn close(mut self) {
        if let Some(open) = self.open.take() {
            // If it fails, the broker takes the messages back when the connection ends.
            let _ = within(open.channel.close(200, "done".into())).await;
        }
    }

    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.open.as_ref().map(|open| &open.channel)
    }

    async fn open(&mut self) -> Result<bool, Unavailable> {
        let anew = self.broker.declare(&self.topology).await?;
        let channel = self.broker.consuming_channel().await?;
        within(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(
            short(&self.queue)?,
            "".into(),
            options,
            FieldTable::default(),
        );
        let deliveries = within(consuming).await?;
        self.open = Some(Open {
            channel,
            deliveries,
        });
        Ok(!anew.is_empty())
    }
}

/// A channel with its one consumer.
#[derive(Debug)]
struct Open {
    channel: Channel,
    deliveries: Deliveries,
}

impl Open {
    /// None when the channel or its consumer has ended.
    async fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        let mut deliveries = vec![Delivery::from(self.deliveries.next().await?.ok()?)];
        while deliveries.len() < limit {
            // Whatever ended the stream shows at the next call.
            let Some(Some(Ok(delivery))) = self.deliveries.next().now_or_never() else {
                break;
            };
            deliveries.push(delivery.into());
        }
        Some(Batch { deliveries })
    }
}

impl Drop for Open {
    /// Dropping `lapin`'s consumer cancels it, which would let another consumer overtake what is not acknowledged
    /// here; so the channel is closed first.
    fn drop(&mut self) {
        if !self.channel.status().connected() {
            return;
        }
        let (channel, deliveries) = (self.channel.clone(), self.deliveries.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = within(channel.close(200, "done".into())).await;
                drop(deliveries);
            });
        }
    }
}
