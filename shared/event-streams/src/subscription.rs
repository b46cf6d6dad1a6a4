//! A catch-up subscription to the log of all streams that survives the loss of its connection.
//!
//! When the server ends the call or the connection is replaced, the subscription makes another one that starts after the
//! last delivered position. If the caller does not read, the flow control of HTTP/2 stops the server from sending more.

use std::sync::Arc;

use eventstore_protocol::shared::Empty;
use eventstore_protocol::streams::read_req::options::filter_options::{Expression, Filter, Window};
use eventstore_protocol::streams::read_req::options::{
    self, AllOptions, CountOption, FilterOption, FilterOptions, ReadDirection, StreamOption,
    SubscriptionOptions, all_options,
};
use eventstore_protocol::streams::read_resp::Content;
use eventstore_protocol::streams::{ReadReq, ReadResp};
use jittered_backoff::Backoff;
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::task::AbortOnDropHandle;
use tonic::Streaming;

use crate::EventStreams;
use crate::call::ATTEMPT_TIMEOUT;
use crate::connection::Connection;
use crate::error::Unavailable;
use crate::event::{Position, RecordedEvent};
use crate::failure::Failure;
use crate::generation::Generation;
use crate::request;

/// The number of events that the server filters between two checkpoints.
const WINDOW: u32 = 256;

/// An item of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next event that passes the filter.
    Event(RecordedEvent),
    /// All events up to this position that pass the filter have been delivered.
    Checkpoint(Position),
    /// The subscription has reached the end of the log; later events are new. Delivered again after each reconnection.
    CaughtUp,
    /// The subscription was interrupted or could not be opened, for this reason. It resumes by itself. Delivered for
    /// each failed attempt.
    Interrupted(Unavailable),
}

/// An endless sequence of the events in the log of all streams. Created by [`EventStreams::subscribe_all`] and
/// [`EventStreams::subscribe_all_of_types`].
#[derive(Debug)]
pub struct Subscription {
    connection: Connection,
    filter: Option<Filter>,
    after: Option<Position>,
    /// The next feed is opened in a task of its own, so that a caller that cancels [`Subscription::next`] does not
    /// restart it.
    opening: Option<AbortOnDropHandle<Result<Feed, Failure>>>,
    feed: Option<Feed>,
    backoff: Backoff,
    /// The earliest time to open the next feed. An instant instead of a sleep, so that a caller that cancels
    /// [`Subscription::next`] does not change it.
    resume_at: Instant,
}

/// One subscription call to the server.
#[derive(Debug)]
struct Feed {
    messages: Streaming<ReadResp>,
    generation: Arc<Generation>,
}

impl EventStreams {
    /// Subscribes to the events after `after` (exclusive; `None` means from the beginning) of the streams whose names
    /// start with one of `stream_prefixes` (an empty slice means all streams). Tombstones of these streams are
    /// included.
    #[must_use]
    pub fn subscribe_all(&self, stream_prefixes: &[&str], after: Option<Position>) -> Subscription {
        let filter = (!stream_prefixes.is_empty())
            .then(|| Filter::StreamIdentifier(expression(stream_prefixes)));
        self.subscribe(filter, after)
    }

    /// Subscribes to the events after `after` (exclusive; `None` means from the beginning) in all streams whose types
    /// start with one of `type_prefixes`. The server filters out the other events.
    #[must_use]
    pub fn subscribe_all_of_types(
        &self,
        type_prefixes: &[&str],
        after: Option<Position>,
    ) -> Subscription {
        self.subscribe(Some(Filter::EventType(expression(type_prefixes))), after)
    }

    fn subscribe(&self, filter: Option<Filter>, after: Option<Position>) -> Subscription {
        Subscription {
            connection: self.connection.clone(),
            filter,
            after,
            opening: None,
            feed: None,
            backoff: Backoff::default(),
            resume_at: Instant::now(),
        }
    }
}

impl Subscription {
    /// Waits for the next delivery without a time limit. After an outage the subscription resumes after the last
    /// delivered position, so that no event is lost or repeated. Cancel-safe: usable in a `select!` without losing
    /// anything.
    pub async fn next(&mut self) -> Delivery {
        loop {
            match self.message().await {
                Ok(Some(delivery)) if self.is_new(&delivery) => return self.delivered(delivery),
                Ok(_) => {}
                Err(failure) => return self.interrupted(&failure),
            }
        }
    }

    /// Fails as soon as the connection is known to be broken, even if the server keeps the call open: a node that no longer
    /// leads ends no subscription, and might never hear of another event.
    async fn message(&mut self) -> Result<Option<Delivery>, Failure> {
        let feed = self.feed().await?;
        let message = tokio::select! {
            biased;
            () = feed.generation.broken() => {
                return Err(Failure::Lost("the connection is being replaced".to_owned()));
            }
            message = feed.messages.message() => message?,
        };
        let ended = || Failure::Lost("the server ended the subscription".to_owned());
        delivery(message.ok_or_else(ended)?)
    }

    async fn feed(&mut self) -> Result<&mut Feed, Failure> {
        if self.feed.is_none() {
            self.feed = Some(self.opened().await?);
        }
        Ok(self.feed.as_mut().expect("the feed was just opened"))
    }

    async fn opened(&mut self) -> Result<Feed, Failure> {
        if self.opening.is_none() {
            sleep_until(self.resume_at).await;
            let generation = self.connection.generation().await;
            let opening = tokio::spawn(Feed::open(generation, self.request()));
            self.opening = Some(AbortOnDropHandle::new(opening));
        }
        let opened = self
            .opening
            .as_mut()
            .expect("the task was just started")
            .await;
        self.opening = None;
        opened.unwrap_or_else(|_| Err(Failure::Lost("the runtime is shutting down".to_owned())))
    }

    fn request(&self) -> ReadReq {
        let after = match self.after {
            Some(position) => all_options::AllOption::Position(options::Position {
                commit_position: position.commit,
                prepare_position: position.prepare,
            }),
            None => all_options::AllOption::Start(Empty {}),
        };
        let all = StreamOption::All(AllOptions {
            all_option: Some(after),
        });
        let filter = self.filter.clone().map(filter_option);
        let subscription = CountOption::Subscription(SubscriptionOptions {});
        request::read(all, ReadDirection::Forwards, subscription, filter)
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

    fn interrupted(&mut self, failure: &Failure) -> Delivery {
        tracing::warn!(%failure, "subscription interrupted, resuming");
        if let Some(feed) = self.feed.take() {
            feed.generation.observe(failure);
        }
        self.resume_at = Instant::now() + self.backoff.step();
        Delivery::Interrupted(Unavailable::new(failure.to_string()))
    }
}

impl Feed {
    async fn open(generation: Arc<Generation>, request: ReadReq) -> Result<Self, Failure> {
        let mut client = generation.client();
        let answer = timeout(ATTEMPT_TIMEOUT, client.read(request)).await;
        let opened = match answer {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Lost(
                "the server did not answer the subscription".to_owned(),
            )),
        };
        if let Err(failure) = &opened {
            generation.observe(failure);
        }
        Ok(Self {
            messages: opened?.into_inner(),
            generation,
        })
    }
}

fn expression(prefixes: &[&str]) -> Expression {
    Expression {
        prefix: prefixes.iter().map(ToString::to_string).collect(),
        ..Expression::default()
    }
}

fn filter_option(filter: Filter) -> FilterOption {
    FilterOption::Filter(FilterOptions {
        filter: Some(filter),
        window: Some(Window::Max(WINDOW)),
        checkpoint_interval_multiplier: 1,
    })
}

fn delivery(message: ReadResp) -> Result<Option<Delivery>, Failure> {
    match message.content {
        Some(Content::Event(event)) => {
            RecordedEvent::from_answer(event).map(|event| Some(Delivery::Event(event)))
        }
        Some(Content::Checkpoint(at)) => {
            let position = Position::checked(at.commit_position, at.prepare_position);
            Ok(position.map(Delivery::Checkpoint))
        }
        Some(Content::CaughtUp(_)) => Ok(Some(Delivery::CaughtUp)),
        Some(Content::StreamNotFound(_)) => Err(Failure::Refused(
            "the server does not find the log of all streams".to_owned(),
        )),
        Some(
            Content::Confirmation(_)
            | Content::FirstStreamPosition(_)
            | Content::LastStreamPosition(_)
            | Content::LastAllStreamPosition(_)
            | Content::FellBehind(_),
        )
        | None => Ok(None),
    }
}
