//! Consumes one queue in batches, for as long as it lives.

use crate::broker::{Broker, Unavailable, within};
use crate::message::Delivery;
use crate::topology::{Topology, short};
use futures::{FutureExt, Stream, StreamExt};
use jittered_backoff::Backoff;
use lapin::options::{BasicAckOptions, BasicConsumeOptions, BasicQosOptions};
use lapin::types::FieldTable;
use lapin::{Channel, Consumer as Deliveries};
use std::time::Duration;
use tokio::time::{Instant, timeout_at};

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
    interval: Duration,
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
            interval: Duration::ZERO,
            open: None,
            cancelled: false,
            failed: false,
            backoff: Backoff::default(),
        }
    }

    /// Gives a busy queue fewer and larger batches: the next batch comes `interval` after the last one, or earlier if it is
    /// full. A message that arrives later than that comes at once.
    #[must_use]
    pub fn at_most_every(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
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
            deliveries: Arriving::new(deliveries, self.interval),
        });
        Ok(!anew.is_empty())
    }
}

/// A channel with its one consumer.
#[derive(Debug)]
struct Open {
    channel: Channel,
    deliveries: Arriving<Deliveries, lapin::message::Delivery>,
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
struct Arriving<S, T> {
    stream: S,
    ended: bool,
    /// What has arrived for the next batch; a cancelled call leaves it here.
    items: Vec<T>,
    interval: Duration,
    /// The next batch does not come earlier, unless it is full.
    not_before: Instant,
}

impl<S, T> Arriving<S, T> {
    fn new(stream: S, interval: Duration) -> Self {
        Self {
            stream,
            ended: false,
            items: Vec::new(),
            interval,
            not_before: Instant::now(),
        }
    }
}

impl<T, E, S: Stream<Item = Result<T, E>> + Unpin> Arriving<S, T> {
    /// Waits for an item, and takes up to `limit` that arrive until it is time for a batch. None when the stream ended, now
    /// or during the last call.
    async fn next(&mut self, limit: usize) -> Option<Vec<T>> {
        if self.items.is_empty() {
            if self.ended {
                return None;
            }
            self.items.push(self.stream.next().await?.ok()?);
        }
        // A timer that has run out already would still wait for its next tick.
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
                Some(Err(_)) | None => self.ended = true,
            }
        }
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
    use futures::stream::{self, StreamExt, poll_fn};
    use std::collections::VecDeque;
    use std::task::Poll;
    use std::time::Duration;
    use tokio::sync::mpsc;

    #[tokio::test]
    async fn an_end_behind_waiting_messages_is_noticed_although_the_stream_is_silent_afterwards() {
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
    async fn a_busy_queue_gives_a_batch_at_each_interval_and_a_quiet_one_gives_it_at_once() {
        let (sender, mut receiver) = mpsc::unbounded_channel::<Result<u32, ()>>();
        let stream = stream::poll_fn(move |context| receiver.poll_recv(context)).boxed();
        let mut arriving = Arriving::new(stream, Duration::from_millis(5));
        let send = |number| sender.send(Ok(number)).unwrap();
        send(1);
        assert_eq!(arriving.next(9).now_or_never(), Some(Some(vec![1])));
        send(2);
        assert_eq!(arriving.next(9).now_or_never(), None, "too early");
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
