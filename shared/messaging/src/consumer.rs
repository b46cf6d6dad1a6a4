//! A consumer that receives the messages of one queue in batches.

use crate::broker::{Broker, within};
use crate::error::{Unavailable, lacking};
use crate::message::Delivery;
use crate::topology::{Topology, short};
use futures::{FutureExt, Stream, StreamExt};
use jittered_backoff::Backoff;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer as Deliveries};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

/// A message batch of a [`Consumer`], or a change of its state.
#[derive(Debug)]
pub enum Incoming {
    /// The consumer has opened the queue, for the first time or again. Unacknowledged messages are delivered again.
    Opened {
        /// Whether a part of the topology was missing, or the broker ended the last consumer because its queue was
        /// deleted. In both cases messages may have been lost.
        declared_anew: bool,
    },
    /// Messages in the order of the queue.
    Batch(Batch),
    /// The consumer lost the queue or could not open it. The next call tries again after a pause.
    Closed(Unavailable),
}

/// Messages that are acknowledged together. Never empty.
#[derive(Debug)]
pub struct Batch {
    /// The messages in the order of the queue.
    pub deliveries: Vec<Delivery>,
}

impl Batch {
    /// Acknowledges all messages of the batch. If this fails, the broker delivers them again.
    pub async fn ack(self) {
        if let Some(last) = self.deliveries.last() {
            let up_to_this = BasicAckOptions { multiple: true };
            if let Err(error) = last.acker.ack(up_to_this).await {
                tracing::debug!(%error, "an acknowledgement was lost");
            }
        }
    }
}

/// A consumer of one queue that reconnects by itself.
#[derive(Debug)]
pub struct Consumer {
    broker: Broker,
    topology: Topology,
    queue: String,
    prefetch: u16,
    interval: Duration,
    open: Option<Open>,
    /// Whether the broker cancelled the last consumer and left its channel open, as it does when the queue is deleted.
    /// Another client may declare the queue again before this consumer does.
    cancelled: bool,
    /// Whether the last attempt failed, so that the next one must pause first.
    failed: bool,
    backoff: Backoff,
}

impl Consumer {
    /// Creates a consumer of `queue`, which `topology` declares. At most `prefetch` messages are delivered and not yet
    /// acknowledged.
    #[must_use]
    pub fn new(broker: Broker, topology: Topology, queue: String, prefetch: u16) -> Self {
        Self {
            broker,
            topology,
            queue,
            prefetch,
            interval: Duration::ZERO,
            open: None,
            cancelled: false,
            failed: false,
            backoff: Backoff::default(),
        }
    }

    /// Limits a busy queue to one batch per `interval`, so that its batches are larger. A full batch is returned
    /// earlier. The first message after a quiet interval is returned at once.
    #[must_use]
    pub fn at_most_every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// Waits for messages and returns up to `limit` of those that have arrived (at least one), or reports that the
    /// queue was opened or closed. Call it in an endless loop: it reconnects by itself. Cancelling it loses no message.
    pub async fn next(&mut self, limit: usize) -> Incoming {
        if let Some(open) = self.open.as_mut() {
            if let Some(batch) = open.next_batch(limit).await {
                self.backoff.reset();
                return Incoming::Batch(batch);
            }
            self.cancelled |= open.channel.status().connected();
            let reason = open.deliveries.failure.take();
            self.open = None;
            let interrupted = || Unavailable("consuming was interrupted".to_owned());
            // The broker closes a consumer's channel for lack of a permission if it refuses a reply.
            let reason = reason.map_or_else(interrupted, |error| lacking("write", error));
            return self.closed(reason);
        }
        if self.failed {
            self.backoff.pause().await;
            self.failed = false;
        }
        match self.open().await {
            Ok(declared) => Incoming::Opened {
                declared_anew: std::mem::take(&mut self.cancelled) || declared,
            },
            Err(error) => self.closed(error),
        }
    }

    fn closed(&mut self, error: Unavailable) -> Incoming {
        tracing::warn!(queue = self.queue, %error, "cannot consume");
        self.failed = true;
        Incoming::Closed(error)
    }

    /// Stops, and returns when the broker has requeued the unacknowledged messages.
    pub async fn close(mut self) {
        if let Some(open) = self.open.take() {
            // If this fails, the broker requeues the messages when the connection ends.
            let _ = within(open.channel.close(200, "done".into())).await;
        }
    }

    pub(crate) fn channel(&self) -> Option<&Channel> {
        self.open.as_ref().map(|open| &open.channel)
    }

    /// Opens the queue. Returns whether a part of the topology was missing.
    async fn open(&mut self) -> Result<bool, Unavailable> {
        let missing = self.broker.declare(&self.topology).await?;
        let channel = self.broker.consuming_channel().await?;
        within(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        let options = BasicConsumeOptions::default();
        let consuming = channel.basic_consume(
            short(&self.queue)?,
            "".into(),
            options,
            FieldTable::default(),
        );
        let consuming = async { consuming.await.map_err(|error| lacking("read", error)) };
        let deliveries = within(consuming).await?;
        self.open = Some(Open {
            channel,
            deliveries: Arriving::new(deliveries, self.interval),
        });
        Ok(!missing.is_empty())
    }
}

/// A channel with its only consumer.
#[derive(Debug)]
struct Open {
    channel: Channel,
    deliveries: Arriving<Deliveries, lapin::message::Delivery, lapin::Error>,
}

impl Open {
    /// Returns `None` if the channel or its consumer has ended.
    async fn next_batch(&mut self, limit: usize) -> Option<Batch> {
        let deliveries = self.deliveries.next(limit).await?;
        Some(Batch {
            deliveries: deliveries.into_iter().map(Delivery::from).collect(),
        })
    }
}

/// Takes the items that have arrived, in batches. The stream reports its end only once and is pending afterwards.
#[derive(Debug)]
struct Arriving<S, T, E> {
    stream: S,
    ended: bool,
    /// Why the stream ended, if it says so.
    failure: Option<E>,
    /// The items for the next batch. They stay here if the call is cancelled.
    items: Vec<T>,
    interval: Duration,
    /// The time at which the next batch is due. A full batch is returned earlier.
    not_before: Instant,
}

impl<S, T, E> Arriving<S, T, E> {
    fn new(stream: S, interval: Duration) -> Self {
        Self {
            stream,
            ended: false,
            failure: None,
            items: Vec::new(),
            interval,
            not_before: Instant::now(),
        }
    }
}

impl<T, E, S: Stream<Item = Result<T, E>> + Unpin> Arriving<S, T, E> {
    /// Waits for an item and takes up to `limit` items that arrive before the next batch is due. Returns `None` if the
    /// stream has ended, in this or the previous call.
    async fn next(&mut self, limit: usize) -> Option<Vec<T>> {
        if self.items.is_empty() {
            if self.ended {
                return None;
            }
            self.items.push(self.stream.next().await?.ok()?);
        }
        // A timeout in the past would still wait for the timer's next tick.
        if Instant::now() < self.not_before {
            let _ = timeout_at(self.not_before, self.fill(limit)).await;
        } else {
            let _ = self.fill(limit).now_or_never();
        }
        self.not_before = Instant::now() + self.interval;
        Some(std::mem::take(&mut self.items))
    }

    async fn fill(&mut self, limit: usize) {
        while self.items.len() < limit && !self.ended {
            match self.stream.next().await {
                Some(Ok(item)) => self.items.push(item),
                Some(Err(error)) => (self.ended, self.failure) = (true, Some(error)),
                None => self.ended = true,
            }
        }
    }
}

impl Drop for Open {
    /// Closes the channel before `lapin`'s consumer is dropped. Dropping that first would cancel the consumer, and
    /// another consumer would get later messages before the unacknowledged ones.
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
    use futures::stream::{self, StreamExt, poll_fn};
    use std::collections::VecDeque;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn the_end_of_the_stream_after_the_last_messages_is_not_missed() {
        let mut polls: VecDeque<Option<Result<u32, ()>>> =
            VecDeque::from([Some(Ok(1)), Some(Ok(2)), Some(Ok(3)), None]);
        let stream = poll_fn(|_| match polls.pop_front() {
            Some(item) => Poll::Ready(item),
            None => Poll::Pending,
        });
        let mut arriving = Arriving::new(stream, Duration::ZERO);
        assert_eq!(arriving.next(1).now_or_never(), Some(Some(vec![1])));
        assert_eq!(arriving.next(100).now_or_never(), Some(Some(vec![2, 3])));
        assert_eq!(arriving.next(100).now_or_never(), Some(None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_busy_queue_returns_a_batch_per_interval_and_a_quiet_one_returns_it_at_once() {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Result<u32, ()>>();
        let stream = stream::poll_fn(move |context| receiver.poll_recv(context)).boxed();
        let mut arriving = Arriving::new(stream, Duration::from_millis(5));
        let send = |number| sender.send(Ok(number)).unwrap();
        send(1);
        assert_eq!(arriving.next(9).now_or_never(), Some(Some(vec![1])));
        send(2);
        assert_eq!(
            arriving.next(9).now_or_never(),
            None,
            "the batch is not due"
        );
        send(3);
        tokio::time::advance(Duration::from_millis(5)).await;
        assert_eq!(arriving.next(9).now_or_never(), Some(Some(vec![2, 3])));
        (4..=6).for_each(send);
        assert_eq!(arriving.next(3).now_or_never(), Some(Some(vec![4, 5, 6])));
        tokio::time::advance(Duration::from_secs(1)).await;
        send(7);
        assert_eq!(arriving.next(9).now_or_never(), Some(Some(vec![7])));
    }
}
