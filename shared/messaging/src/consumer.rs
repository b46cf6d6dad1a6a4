//! Consumes one queue in batches, for as long as it lives.

use crate::broker::{Broker, Unavailable, within};
use crate::message::Delivery;
use crate::topology::{Topology, short};
use futures::{FutureExt, Stream, StreamExt};
use jittered_backoff::Backoff;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer as Deliveries};

/// What a consumer has to tell.
#[derive(Debug)]
pub enum Incoming {
    /// The queue is consumed (again). Messages that were not acknowledged come again.
    Opened {
        /// Whether a part of the topology did not exist, or the broker ended the last consumer because its queue was
        /// deleted: messages may have been lost.
        declared_anew: bool,
    },
    /// Messages, in the queue's order.
    Batch(Batch),
    /// The queue is not consumed: it was lost, or could not be opened. The next call tries again, after a pause.
    Closed(Unavailable),
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
    /// The broker ended a consumer and kept its channel, as it does when the queue is deleted. Somebody else may have
    /// declared the queue again by the time this consumer looks for it.
    cancelled: bool,
    /// Whether something failed since the last pause.
    failed: bool,
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
            cancelled: false,
            failed: false,
            backoff: Backoff::default(),
        }
    }

    /// Waits for messages and returns up to `limit` of those that are there (at least one), or says that the queue was
    /// opened or closed. To be called for ever, it reconnects by itself; may be cancelled without losing a message.
    pub async fn next(&mut self, limit: usize) -> Incoming {
        if let Some(open) = self.open.as_mut() {
            if let Some(batch) = open.next_batch(limit).await {
                self.backoff.reset();
                return Incoming::Batch(batch);
            }
            self.cancelled |= open.channel.status().connected();
            self.open = None;
            return self.closed(Unavailable("consuming was interrupted".to_owned()));
        }
        if self.failed {
            self.backoff.pause().await;
            self.failed = false;
        }
        match self.open().await {
            Ok(anew) => Incoming::Opened {
                declared_anew: std::mem::take(&mut self.cancelled) || anew,
            },
            Err(error) => self.closed(error),
        }
    }

    fn closed(&mut self, error: Unavailable) -> Incoming {
        tracing::warn!(queue = self.queue, %error, "cannot consume");
        self.failed = true;
        Incoming::Closed(error)
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
            deliveries: Arriving::new(deliveries),
        });
        Ok(!anew.is_empty())
    }
}

/// A channel with its one consumer.
#[derive(Debug)]
struct Open {
    channel: Channel,
    deliveries: Arriving<Deliveries>,
}

impl Open {
    /// None when the channel or its consumer has ended.
    async fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        let deliveries = self.deliveries.next(limit).await?;
        Some(Batch {
            deliveries: deliveries.into_iter().map(Delivery::from).collect(),
        })
    }
}

/// Takes what has arrived in batches, from a stream that says only once that it has ended and is silent afterwards.
#[derive(Debug)]
struct Arriving<S> {
    stream: S,
    ended: bool,
}

impl<S> Arriving<S> {
    fn new(stream: S) -> Self {
        let ended = false;
        Self { stream, ended }
    }
}

impl<T, E, S: Stream<Item = Result<T, E>> + Unpin> Arriving<S> {
    /// Waits for an item, and takes up to `limit` that are there. None when the stream ended, now or during the last call.
    async fn next(&mut self, limit: usize) -> Option<Vec<T>> {
        if self.ended {
            return None;
        }
        let mut items = vec![self.stream.next().await?.ok()?];
        while items.len() < limit
            && let Some(next) = self.stream.next().now_or_never()
        {
            let Some(Ok(item)) = next else {
                self.ended = true;
                break;
            };
            items.push(item);
        }
        Some(items)
    }
}

impl Drop for Open {
    /// Dropping `lapin`'s consumer cancels it, which would let another consumer overtake what is not acknowledged
    /// here; so the channel is closed first.
    fn drop(&mut self) {
        if !self.channel.status().connected() {
            return;
        }
        let (channel, deliveries) = (self.channel.clone(), self.deliveries.stream.clone());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                let _ = within(channel.close(200, "done".into())).await;
                drop(deliveries);
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Arriving;
    use futures::FutureExt;
    use futures::stream::poll_fn;
    use std::collections::VecDeque;
    use std::task::Poll;

    #[test]
    fn an_end_behind_waiting_messages_is_noticed_although_the_stream_is_silent_afterwards() {
        let mut polls: VecDeque<Option<Result<u32, ()>>> =
            VecDeque::from([Some(Ok(1)), Some(Ok(2)), Some(Ok(3)), None]);
        let mut arriving = Arriving::new(poll_fn(|_| match polls.pop_front() {
            Some(item) => Poll::Ready(item),
            None => Poll::Pending,
        }));
        assert_eq!(arriving.next(1).now_or_never(), Some(Some(vec![1])));
        assert_eq!(arriving.next(100).now_or_never(), Some(Some(vec![2, 3])));
        assert_eq!(arriving.next(100).now_or_never(), Some(None));
    }
}
