//! A catch-up subscription to the log of all streams that outlives every loss of the connection.
//!
//! The vendor's subscription runs as a task on the connection's own runtime and fills a short queue; when it ends, for
//! whatever reason (the server went away or ended it, the client panicked or spins), another one is opened after the last
//! position that was delivered.

use std::sync::Arc;

use eventstore::{
    Client, Error, StreamPosition, SubscribeToAllOptions, SubscriptionEvent, SubscriptionFilter,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::AbortOnDropHandle;
use tracing::instrument::WithSubscriber;

use crate::EventStreams;
use crate::connection::Connection;
use crate::error::{Unavailable, is_outage};
use crate::event::{Position, RecordedEvent};
use crate::generation::Generation;
use crate::runaway::Turns;
use jittered_backoff::Backoff;

/// How many deliveries wait for a slow reader; the server then waits too.
const QUEUE: usize = 64;

/// How many events the server looks at for the filter between two checkpoints.
const WINDOW: u32 = 256;

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next event of the asked-for streams.
    Event(RecordedEvent),
    /// Everything up to here has been delivered, although the last events were of other streams.
    Checkpoint(Position),
    /// The end of the log was reached; what comes now is new. Comes again after each reconnection.
    CaughtUp,
    /// The server ended or refused the subscription, for this reason. It is resumed by itself; each attempt that fails
    /// is told.
    Interrupted(Unavailable),
}

/// The events of the log of all streams, from a position on, for ever. Made by [`EventStreams::subscribe_all`].
#[derive(Debug)]
pub struct Subscription {
    connection: Connection,
    prefixes: Vec<String>,
    after: Option<Position>,
    feed: Option<Feed>,
    backoff: Backoff,
    /// When the next feed may be opened: an instant and not a wait, so that a reader who turns away does not shorten it.
    resume_at: Instant,
}

#[derive(Debug)]
struct Feed {
    deliveries: mpsc::Receiver<Result<Delivery, Error>>,
    generation: Arc<Generation>,
    _task: AbortOnDropHandle<()>,
}

impl EventStreams {
    /// Subscribes to the events after `after` (exclusive; `None`: from the beginning) of the streams whose names begin
    /// with one of `stream_prefixes` (none: of all streams). A tombstone of such a stream is among them.
    #[must_use]
    pub fn subscribe_all(&self, stream_prefixes: &[&str], after: Option<Position>) -> Subscription {
        Subscription {
            connection: self.connection.clone(),
            prefixes: stream_prefixes.iter().map(ToString::to_string).collect(),
            after,
            feed: None,
            backoff: Backoff::default(),
            resume_at: Instant::now(),
        }
    }
}

impl Subscription {
    /// Waits for the next delivery, for ever: after an outage it resumes after the last position delivered, so that no
    /// event is lost or comes twice. May be dropped half-way (in a `select!`) without losing anything.
    pub async fn next(&mut self) -> Delivery {
        loop {
            match self.feed().await.deliveries.recv().await {
                Some(Ok(delivery)) if self.is_new(&delivery) => return self.delivered(delivery),
                Some(Ok(_)) => {}
                Some(Err(error)) => return self.lost(&error),
                None => return self.lost(&Error::InternalClientError),
            }
        }
    }

    async fn feed(&mut self) -> &mut Feed {
        if self.feed.is_none() {
            sleep_until(self.resume_at).await;
            let generation = self.connection.generation().await;
            self.feed = Some(Feed::open(generation, self.options()));
        }
        self.feed.as_mut().expect("opened above")
    }

    fn options(&self) -> SubscribeToAllOptions {
        let position = match self.after {
            Some(position) => StreamPosition::Position(position.into()),
            None => StreamPosition::Start,
        };
        let options = SubscribeToAllOptions::default().position(position);
        if self.prefixes.is_empty() {
            return options;
        }
        let filter = SubscriptionFilter::on_stream_name().max(WINDOW);
        options.filter(
            self.prefixes
                .iter()
                .fold(filter, SubscriptionFilter::add_prefix),
        )
    }

    fn is_new(&self, delivery: &Delivery) -> bool {
        match delivery {
            Delivery::Event(event) => self.after.is_none_or(|after| event.position > after),
            Delivery::Checkpoint(position) => self.after.is_none_or(|after| *position > after),
            Delivery::CaughtUp | Delivery::Interrupted(_) => true,
        }
    }

    fn delivered(&mut self, delivery: Delivery) -> Delivery {
        self.backoff.reset();
        match &delivery {
            Delivery::Event(event) => self.after = Some(event.position),
            Delivery::Checkpoint(position) => self.after = Some(*position),
            Delivery::CaughtUp | Delivery::Interrupted(_) => {}
        }
        delivery
    }

    fn lost(&mut self, error: &Error) -> Delivery {
        tracing::warn!(%error, "subscription lost, resuming");
        let feed = self.feed.take();
        if let Some(feed) = feed.filter(|_| is_outage(error)) {
            feed.generation.report_broken();
        }
        self.resume_at = Instant::now() + self.backoff.step();
        Delivery::Interrupted(Unavailable::new(error.to_string()))
    }
}

impl Feed {
    fn open(generation: Arc<Generation>, options: SubscribeToAllOptions) -> Self {
        let (sender, deliveries) = mpsc::channel(QUEUE);
        let turns = Turns::default();
        let task = generation
            .spawn(|client| pump(client, options, sender, turns.clone()).with_subscriber(turns));
        Self {
            deliveries,
            generation,
            _task: task,
        }
    }
}

/// Passes on what the server sends until it fails or nobody listens.
async fn pump(
    client: Client,
    options: SubscribeToAllOptions,
    sender: mpsc::Sender<Result<Delivery, Error>>,
    turns: Turns,
) {
    let mut subscription = client.subscribe_to_all(&options).await;
    loop {
        let message = subscription.next_subscription_event().await;
        turns.reset();
        let failed = message.is_err();
        let Some(delivery) = message.map(delivery).transpose() else {
            continue;
        };
        if sender.send(delivery).await.is_err() || failed {
            return;
        }
    }
}

fn delivery(message: SubscriptionEvent) -> Option<Delivery> {
    match message {
        SubscriptionEvent::EventAppeared(event) => {
            RecordedEvent::from_answer(event).map(Delivery::Event)
        }
        SubscriptionEvent::Checkpoint(position) => Some(Delivery::Checkpoint(position.into())),
        SubscriptionEvent::CaughtUp => Some(Delivery::CaughtUp),
        SubscriptionEvent::Confirmed(_)
        | SubscriptionEvent::FirstStreamPosition(_)
        | SubscriptionEvent::LastStreamPosition(_)
        | SubscriptionEvent::LastAllPosition(_)
        | SubscriptionEvent::FellBehind => None,
    }
}
