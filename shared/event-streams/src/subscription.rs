//! A catch-up subscription to the log of all streams that outlives every loss of the connection.
//!
//! When a subscription ends, for whatever reason (the server went away or ended it), another one is opened after the last
//! position that was delivered. What is not read stays with the server, as far as the window of the call is full.

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
use crate::call::ATTEMPT_WITHIN;
use crate::connection::Connection;
use crate::error::Unavailable;
use crate::event::{Position, RecordedEvent};
use crate::failure::Failure;
use crate::generation::Generation;
use crate::read;

/// How many events the server looks at for the filter between two checkpoints.
const WINDOW: u32 = 256;

/// What a subscription delivers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Delivery {
    /// The next event that the subscription asks for.
    Event(RecordedEvent),
    /// Everything up to here has been delivered, although the filter leaves out the last events.
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
    filter: Option<Filter>,
    after: Option<Position>,
    /// A task, so that a reader who turns away does not begin the opening anew each time.
    opening: Option<AbortOnDropHandle<Result<Feed, Failure>>>,
    feed: Option<Feed>,
    backoff: Backoff,
    /// When the next feed may be opened: an instant and not a wait, so that a reader who turns away does not shorten it.
    resume_at: Instant,
}

#[derive(Debug)]
struct Feed {
    messages: Streaming<ReadResp>,
    generation: Arc<Generation>,
}

impl EventStreams {
    /// Subscribes to the events after `after` (exclusive; `None`: from the beginning) of the streams whose names begin
    /// with one of `stream_prefixes` (none: of all streams). A tombstone of such a stream is among them.
    #[must_use]
    pub fn subscribe_all(&self, stream_prefixes: &[&str], after: Option<Position>) -> Subscription {
        let filter = (!stream_prefixes.is_empty())
            .then(|| Filter::StreamIdentifier(expression(stream_prefixes)));
        self.subscribe(filter, after)
    }

    /// Subscribes to the events after `after` (exclusive; `None`: from the beginning) whose types begin with one of
    /// `type_prefixes`, of all streams. The server leaves the others out.
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
    /// Waits for the next delivery, for ever: after an outage it resumes after the last position delivered, so that no
    /// event is lost or comes twice. May be dropped half-way (in a `select!`) without losing anything.
    pub async fn next(&mut self) -> Delivery {
        loop {
            match self.message().await {
                Ok(Some(delivery)) if self.is_new(&delivery) => return self.delivered(delivery),
                Ok(_) => {}
                Err(failure) => return self.lost(&failure),
            }
        }
    }

    async fn message(&mut self) -> Result<Option<Delivery>, Failure> {
        let message = self.feed().await?.messages.message().await?;
        let ended = || Failure::Lost("the server ended the subscription".to_owned());
        delivery(message.ok_or_else(ended)?)
    }

    async fn feed(&mut self) -> Result<&mut Feed, Failure> {
        if self.feed.is_none() {
            self.feed = Some(self.opened().await?);
        }
        Ok(self.feed.as_mut().expect("opened above"))
    }

    async fn opened(&mut self) -> Result<Feed, Failure> {
        if self.opening.is_none() {
            sleep_until(self.resume_at).await;
            let generation = self.connection.generation().await;
            let opening = tokio::spawn(Feed::open(generation, self.request()));
            self.opening = Some(AbortOnDropHandle::new(opening));
        }
        let opened = self.opening.as_mut().expect("begun above").await;
        self.opening = None;
        opened.unwrap_or_else(|_| Err(Failure::Lost("the runtime is ending".to_owned())))
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
        read::request(all, ReadDirection::Forwards, subscription, filter)
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

    fn lost(&mut self, failure: &Failure) -> Delivery {
        tracing::warn!(%failure, "subscription lost, resuming");
        if let Some(feed) = self.feed.take() {
            feed.generation.judge(failure);
        }
        self.resume_at = Instant::now() + self.backoff.step();
        Delivery::Interrupted(Unavailable::new(failure.to_string()))
    }
}

impl Feed {
    async fn open(generation: Arc<Generation>, request: ReadReq) -> Result<Self, Failure> {
        let mut client = generation.client();
        let answer = timeout(ATTEMPT_WITHIN, client.read(request)).await;
        let opened = match answer {
            Ok(answer) => answer.map_err(Failure::from),
            Err(_) => Err(Failure::Lost("the subscription is not answered".to_owned())),
        };
        if let Err(failure) = &opened {
            generation.judge(failure);
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
            "the server says that the log of all streams is not there".to_owned(),
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
