//! The active publisher: it sends the log's events to the broker and parks streams that are stuck.

use super::checkpoint::{Checkpoint, SaveError};
use super::overdue::{self, LookError, Overdue};
use super::parking::{Attempted, Parking, Rest};
use super::window::{Content, Settled, Stuck, Window};
use super::{EventPublisher, State};
use crate::integration::consumer;
use crate::integration::mapping::{self, STREAM_DELETED, Unmappable};
use crate::integration::message::IntegrationEvent;
use crate::stored_event::USER_DELETED;
use anyhow::Context as _;
use event_streams::{Delivery, Position, RecordedEvent, Subscription};
use futures::FutureExt as _;
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, sleep_until};
use tokio_util::sync::CancellationToken;

/// How many parked streams are retried at once.
const ATTEMPTS: usize = 8;
/// The first pause between two rounds of attempts is this part of the longest.
const SHORTEST: u32 = 64;
/// How often the publisher tries whether a queue is bound by now for the messages that no queue took.
const SCOUT_EVERY: Duration = Duration::from_secs(1);
/// How often the publisher looks for events of the log that have not been delivered.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// A busy log is taken in batches at this interval, so that store, keys and broker are asked for many events at once. The first
/// event after a quiet interval is taken at once.
const TAKE_EVERY: Duration = Duration::from_millis(10);

/// Why a publisher is no longer active.
pub(super) enum Ended {
    Shutdown,
    Fenced,
}

/// The result of a task beside the loop.
enum Done {
    Attempt(Attempted),
    Look(Result<Option<Position>, LookError>),
}

pub(super) struct Active<'a> {
    role: &'a EventPublisher,
    state: &'a State,
    checkpoint: Checkpoint,
    log: Subscription,
    window: Window,
    parking: Parking,
    /// Parked streams that this round has yet to retry.
    due: VecDeque<String>,
    attempts: usize,
    pause: Duration,
    next_round: Instant,
    /// Attempts and looks run as tasks of their own. If only the loop polled them, one of them could hold a connection to the
    /// key store that the loop is waiting for.
    beside: JoinSet<Done>,
    /// When the next batch of deliveries is due.
    next_take: Instant,
    /// The last position that the subscription has delivered.
    taken: Option<Position>,
    overdue: Overdue,
    looking: bool,
    /// Why the subscription delivers nothing, if it is interrupted.
    interrupted: Option<String>,
}

impl<'a> Active<'a> {
    pub(super) fn new(role: &'a EventPublisher, state: &'a State, checkpoint: Checkpoint) -> Self {
        let taken = checkpoint.position();
        let publisher = messaging::Publisher::new(role.broker.clone(), consumer::published());
        Self {
            role,
            state,
            log: role.follow(taken),
            window: Window::new(publisher),
            parking: Parking::of(checkpoint.parked().to_vec()),
            checkpoint,
            due: VecDeque::new(),
            attempts: 0,
            pause: role.pace.retry / SHORTEST,
            next_round: Instant::now(),
            beside: JoinSet::new(),
            next_take: Instant::now(),
            taken,
            overdue: Overdue::default(),
            looking: false,
            interrupted: Some("starting".to_owned()),
        }
    }

    pub(super) async fn publish(mut self, shutdown: &CancellationToken) -> anyhow::Result<Ended> {
        let ended = self.follow(shutdown).await;
        match ended {
            Ok(Ended::Fenced) => return Ok(Ended::Fenced),
            Ok(Ended::Shutdown) | Err(_) => {}
        }
        // The checkpoint is free for another publisher.
        let (low_water_mark, parked) = (self.window.low_water_mark(), self.parking.list());
        let released = self
            .checkpoint
            .release(&self.role.store, low_water_mark, parked)
            .await;
        ended?;
        released.map(|()| Ended::Shutdown).or_else(fenced)
    }

    async fn follow(&mut self, shutdown: &CancellationToken) -> anyhow::Result<Ended> {
        let mut save = every(self.role.pace.checkpoint);
        let mut look = every(LOOK_EVERY);
        let mut scout = every(SCOUT_EVERY);
        loop {
            tokio::select! {
                // Answers come before deliveries: together they make room for a larger batch.
                biased;
                () = shutdown.cancelled() => return Ok(Ended::Shutdown),
                Some(done) = self.beside.join_next() => self.finish(done?).await?,
                () = sleep_until(self.next_round) => self.begin_round(),
                _ = scout.tick() => self.scout(),
                _ = look.tick() => self.look(),
                _ = save.tick() => {
                    let (low_water_mark, parked) = (self.window.low_water_mark(), self.parking.list());
                    if let Err(error) = self.checkpoint.save(&self.role.store, low_water_mark, parked).await {
                        return fenced(error);
                    }
                }
                settled = self.window.next() => self.settle(settled).await?,
                () = sleep_until(self.next_take), if !self.is_due() => {}
                delivery = self.log.next(), if self.is_due() && self.window.room() > 0 => self.take(delivery).await?,
            }
            self.report();
        }
    }

    /// Whether deliveries may be taken now.
    fn is_due(&self) -> bool {
        Instant::now() >= self.next_take
    }

    /// Takes this delivery and those that have arrived behind it, as far as the window has room.
    async fn take(&mut self, first: Delivery) -> anyhow::Result<()> {
        self.next_take = Instant::now() + TAKE_EVERY;
        let mut deliveries = vec![first];
        while deliveries.len() < self.window.room()
            && let Some(delivery) = self.log.next().now_or_never()
        {
            deliveries.push(delivery);
        }
        let events: Vec<_> = deliveries.iter().filter_map(event).collect();
        let mapped = mapping::to_messages(&events, &self.role.keys).await?;
        let mut contents = mapped.into_iter().map(content);
        for delivery in deliveries {
            self.interrupted = None;
            match delivery {
                Delivery::Event(event) => {
                    self.taken = Some(event.position);
                    let content = contents.next().context("each event has a content")?;
                    self.send(&event, content).await?;
                }
                Delivery::Checkpoint(position) => {
                    self.taken = Some(position);
                    self.window.skip(position);
                }
                Delivery::CaughtUp => {}
                Delivery::Interrupted(reason) => self.interrupted = Some(reason.to_string()),
            }
        }
        Ok(())
    }

    /// Sends the event, or leaves it to the next attempt if its stream is parked. A deletion ends the parking, because the
    /// events before it no longer matter.
    async fn send(&mut self, event: &RecordedEvent, content: Content) -> anyhow::Result<()> {
        if event.event_type == STREAM_DELETED {
            self.parking.end(&event.stream);
            self.window.skip(event.position);
            return Ok(());
        }
        match self.parking.revision(&event.stream) {
            // The event was sent or skipped before, and may be sent again.
            Some(first) if event.revision < first && content.is_err() => {
                self.window.skip(event.position);
            }
            Some(first) if event.revision < first => self.window.push(event, content).await?,
            Some(_) if event.event_type == USER_DELETED && content.is_ok() => {
                self.parking.end(&event.stream);
                self.window.push(event, content).await?;
            }
            Some(_) => {
                self.parking.see(event);
                self.window.skip(event.position);
            }
            None => self.send_or_park(event, content).await?,
        }
        Ok(())
    }

    async fn send_or_park(
        &mut self,
        event: &RecordedEvent,
        content: Content,
    ) -> Result<(), messaging::Unavailable> {
        match content {
            Err(why) if self.parking.has_room_for(&event.stream) => {
                let stuck = Stuck {
                    stream: event.stream.clone(),
                    revision: event.revision,
                    event_type: event.event_type.clone(),
                    why,
                    refused: false,
                };
                self.parking.park(stuck, None);
                self.hurry();
                self.window.skip(event.position);
                Ok(())
            }
            content => self.window.push(event, content).await,
        }
    }

    async fn settle(&mut self, settled: Settled) -> anyhow::Result<()> {
        for stuck in self.window.take(settled).await? {
            if self.parking.has_room_for(&stuck.stream) {
                let seen = self.window.give_up(&stuck.stream);
                self.parking.park(stuck, seen);
                self.hurry();
            } else {
                self.window.send_again(&stuck.stream).await?;
            }
        }
        Ok(())
    }

    /// Makes the next round start soon, because a stream has just been parked.
    fn hurry(&mut self) {
        self.pause = self.role.pace.retry / SHORTEST;
        self.next_round = self.next_round.min(Instant::now() + self.pause);
    }

    /// Retries every parked stream that has no message in flight. Rounds become rarer while no stream is newly parked. A round
    /// that is due while attempts are under way begins a little later.
    fn begin_round(&mut self) {
        if !self.is_idle() {
            self.next_round = Instant::now() + SCOUT_EVERY.min(self.pause);
            return;
        }
        self.due = self.parking.names().into();
        self.begin_attempts();
        self.next_round = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(self.role.pace.retry);
    }

    /// Retries a few parked streams, to notice a new binding before the next round.
    fn scout(&mut self) {
        if self.is_idle() {
            self.due = self.parking.scouts().into();
            self.begin_attempts();
        }
    }

    /// Whether no parked stream is being retried.
    fn is_idle(&self) -> bool {
        self.due.is_empty() && self.attempts == 0
    }

    fn begin_attempts(&mut self) {
        while self.attempts < ATTEMPTS
            && let Some(stream) = self.due.pop_front()
        {
            if self.parking.revision(&stream).is_some()
                && self.window.hold(&stream)
                && let Some(rest) = self.parking.begin(&stream)
            {
                self.attempts += 1;
                self.attempt(rest);
            }
        }
    }

    fn attempt(&mut self, rest: Rest) {
        let (store, keys) = (self.role.store.clone(), self.role.keys.clone());
        let publisher = self.window.publisher().clone();
        let attempt = async move { Done::Attempt(rest.send(store, keys, publisher).await) };
        self.beside.spawn(attempt);
    }

    fn look(&mut self) {
        if self.window.room() == 0 || self.interrupted.is_some() {
            // Nothing is delivered for another reason, which is reported already.
            self.overdue = Overdue::default();
        } else if !self.looking {
            self.looking = true;
            let look = overdue::look(self.role.store.clone(), self.taken);
            self.beside.spawn(async move { Done::Look(look.await) });
        }
    }

    async fn finish(&mut self, done: Done) -> anyhow::Result<()> {
        match done {
            Done::Attempt(attempted) => {
                let stream = attempted.stream().to_owned();
                self.window.unhold(&stream).await?;
                if self.parking.shows_a_way(&attempted) {
                    self.next_round = Instant::now();
                }
                if self.parking.finish(attempted) {
                    self.due.push_front(stream);
                }
                self.attempts -= 1;
                self.begin_attempts();
            }
            Done::Look(looked) => self.looked(looked)?,
        }
        Ok(())
    }

    fn looked(&mut self, looked: Result<Option<Position>, LookError>) -> Result<(), LookError> {
        self.looking = false;
        match looked {
            Ok(first) => self.overdue.note(self.taken, first),
            Err(LookError::Store(_)) => {}
            Err(error @ LookError::Beyond) => return Err(error),
        }
        if self.overdue.problem().is_some() {
            self.log = self.role.follow(self.taken);
        }
        Ok(())
    }

    /// Reports why events are not published, if they are not, and which streams are parked.
    fn report(&self) {
        let problem = self.window.problem().map(|why| {
            if self.parking.is_full() {
                format!("the list of parked streams is full: {why}")
            } else {
                why.to_owned()
            }
        });
        let why = problem
            .or_else(|| self.interrupted.clone())
            .or_else(|| self.overdue.problem());
        super::report(self.state, why.map_or(Ok(()), Err));
        super::report(
            &self.role.parked,
            self.parking.problem().map_or(Ok(()), Err),
        );
    }
}

fn event(delivery: &Delivery) -> Option<&RecordedEvent> {
    match delivery {
        Delivery::Event(event) => Some(event),
        Delivery::Checkpoint(_) | Delivery::CaughtUp | Delivery::Interrupted(_) => None,
    }
}

fn content(mapped: Result<IntegrationEvent, Unmappable>) -> Content {
    let message = mapped.map_err(|error| error.to_string())?;
    Ok(Arc::new(message.encode()))
}

fn every(period: Duration) -> Interval {
    let mut interval = interval(period);
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    interval
}

fn fenced(error: SaveError) -> anyhow::Result<Ended> {
    match error {
        SaveError::Fenced => Ok(Ended::Fenced),
        error @ (SaveError::Store(_) | SaveError::Malformed) => Err(error.into()),
    }
}
