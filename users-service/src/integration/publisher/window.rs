//! What was read from the log and is not yet confirmed, in the log's order, and in one lane per stream.
//!
//! Invariants: the mark never passes an event that the broker did not confirm and route, unless its stream was parked;
//! of each stream at most one message is on its way, and no later one is sent before it is confirmed.

use event_streams::{Position, RecordedEvent};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use jittered_backoff::Backoff;
use messaging::{Message, PublishError, Publisher, Unavailable};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// Not more than the publisher's outbox takes, so that sending never waits.
const ROOM: usize = 256;

/// The message of an event, or why there is none.
pub(super) type Content = Result<Arc<Message>, String>;

/// The next thing that happened to the window.
pub(super) enum Settled {
    /// The broker answered for the entry of this number.
    Answer(u64, Result<(), PublishError>),
    /// It is time to try again what failed.
    Due,
}

/// A stream that stands still although others go on: a candidate for parking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    pub(super) stream: String,
    /// The first event that was not sent.
    pub(super) revision: u64,
    pub(super) event_type: String,
    pub(super) why: String,
}

pub(super) struct Window {
    publisher: Publisher,
    entries: VecDeque<WindowEntry>,
    /// The number of the first entry. Entries are numbered in the log's order.
    first: u64,
    mark: Option<Position>,
    lanes: HashMap<String, Lane>,
    answers: FuturesUnordered<BoxFuture<'static, (u64, Result<(), PublishError>)>>,
    /// How many messages were confirmed.
    confirmed: u64,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

/// The unsettled entries of one stream.
#[derive(Default)]
struct Lane {
    numbers: VecDeque<u64>,
    /// Somebody else sends earlier events of this stream: nothing is sent from here meanwhile.
    held: bool,
}

struct WindowEntry {
    position: Position,
    /// None if nothing is left to send.
    unsettled: Option<Unsettled>,
}

struct Unsettled {
    stream: String,
    revision: u64,
    event_type: String,
    content: Content,
    /// Why it has to be tried again.
    failed: Option<String>,
    /// How often no queue took it.
    refusals: u32,
    /// How many messages were confirmed when no queue took this one for the first time.
    refused_at: u64,
}

impl Window {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            entries: VecDeque::new(),
            first: 0,
            mark: None,
            lanes: HashMap::new(),
            answers: FuturesUnordered::new(),
            confirmed: 0,
            backoff: Backoff::default(),
            retry_at: None,
        }
    }

    pub(super) fn publisher(&self) -> &Publisher {
        &self.publisher
    }

    /// How many more entries it takes.
    pub(super) fn room(&self) -> usize {
        ROOM.saturating_sub(self.entries.len())
    }

    /// Everything up to here is confirmed and routed, or parked; none if nothing is yet.
    pub(super) fn mark(&self) -> Option<Position> {
        self.mark
    }

    /// Why the oldest of what failed did.
    pub(super) fn trouble(&self) -> Option<&str> {
        let mut unsettled = self.entries.iter().filter_map(|one| one.unsettled.as_ref());
        unsettled.find_map(|one| one.failed.as_deref())
    }

    /// Sends the message of an event as soon as its stream's earlier ones are confirmed.
    pub(super) async fn push(
        &mut self,
        event: &RecordedEvent,
        content: Content,
    ) -> Result<(), Unavailable> {
        let number = self.first + self.entries.len() as u64;
        self.entries.push_back(WindowEntry {
            position: event.position,
            unsettled: Some(Unsettled {
                stream: event.stream.clone(),
                revision: event.revision,
                event_type: event.event_type.clone(),
                content,
                failed: None,
                refusals: 0,
                refused_at: 0,
            }),
        });
        let lane = self.lanes.entry(event.stream.clone()).or_default();
        lane.numbers.push_back(number);
        if lane.numbers.len() == 1 && !lane.held {
            self.begin(number).await?;
        }
        Ok(())
    }

    /// Notes a position where there is nothing to send.
    pub(super) fn pass(&mut self, position: Position) {
        match self.entries.back_mut() {
            None => self.mark = Some(position),
            Some(last) if last.unsettled.is_none() => last.position = position,
            Some(_) => self.entries.push_back(WindowEntry {
                position,
                unsettled: None,
            }),
        }
    }

    /// Waits for the next thing to [`take`](Self::take). May be cancelled at any time.
    pub(super) async fn next(&mut self) -> Settled {
        let due = self.retry_at;
        tokio::select! {
            Some((number, outcome)) = self.answers.next() => Settled::Answer(number, outcome),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Settled::Due,
            else => std::future::pending().await,
        }
    }

    /// Sends what can be sent now, and moves the mark. Returns the streams that stand still while others go on.
    pub(super) async fn take(&mut self, settled: Settled) -> Result<Vec<Stuck>, Unavailable> {
        match settled {
            Settled::Answer(number, Ok(())) => {
                self.confirmed += 1;
                if let Some(stream) = self.settle(number) {
                    self.go_on(&stream).await?;
                }
                self.advance();
                if self.trouble().is_none() {
                    self.backoff.reset();
                }
                Ok(Vec::new())
            }
            Settled::Answer(number, Err(error)) => {
                self.fail(number, &error);
                Ok(Vec::new())
            }
            Settled::Due => self.try_again().await,
        }
    }

    /// Keeps the stream's entries back until [`unhold`](Self::unhold); false if one is on its way.
    pub(super) fn hold(&mut self, stream: &str) -> bool {
        let lane = self.lanes.entry(stream.to_owned()).or_default();
        let free = lane.numbers.is_empty() && !lane.held;
        lane.held |= free;
        free
    }

    pub(super) async fn unhold(&mut self, stream: &str) -> Result<(), Unavailable> {
        if let Some(lane) = self.lanes.get_mut(stream) {
            lane.held = false;
        }
        self.go_on(stream).await
    }

    /// Gives up the entries of a stream, because it is parked, and returns the revision of the last one.
    pub(super) fn give_up(&mut self, stream: &str) -> Option<u64> {
        let lane = self.lanes.remove(stream)?;
        let mut last = None;
        for number in lane.numbers {
            let unsettled = self.entry(number).and_then(|entry| entry.unsettled.take());
            last = last.max(unsettled.map(|entry| entry.revision));
        }
        self.advance();
        last
    }

    /// Sends the oldest entry of a stream that is [`Stuck`] once more, because it cannot be parked.
    pub(super) async fn send_again(&mut self, stream: &str) -> Result<(), Unavailable> {
        self.go_on(stream).await
    }

    async fn begin(&mut self, number: u64) -> Result<(), Unavailable> {
        let Some(entry) = self.unsettled(number) else {
            return Ok(());
        };
        match &entry.content {
            Ok(message) => {
                let message = Arc::clone(message);
                entry.failed = None;
                let confirm = self.publisher.send(message).await?;
                let answer = async move { (number, confirm.await) };
                self.answers.push(Box::pin(answer));
            }
            Err(why) => {
                entry.failed = Some(why.clone());
                self.retry_later();
            }
        }
        Ok(())
    }

    /// Sends the stream's next message, if there is one.
    async fn go_on(&mut self, stream: &str) -> Result<(), Unavailable> {
        let next = self
            .lanes
            .get(stream)
            .map(|lane| (lane.held, lane.numbers.front().copied()));
        match next {
            Some((false, None)) => drop(self.lanes.remove(stream)),
            Some((false, Some(number))) => self.begin(number).await?,
            Some((true, _)) | None => {}
        }
        Ok(())
    }

    /// The entry needs nothing any more. Returns its stream, if it was not given up before.
    fn settle(&mut self, number: u64) -> Option<String> {
        let stream = self.entry(number)?.unsettled.take()?.stream;
        self.lanes.get_mut(&stream)?.numbers.pop_front();
        Some(stream)
    }

    fn fail(&mut self, number: u64, error: &PublishError) {
        let confirmed = self.confirmed;
        if let Some(entry) = self.unsettled(number) {
            entry.failed = Some(error.to_string());
            if matches!(error, PublishError::Unroutable | PublishError::Refused) {
                if entry.refusals == 0 {
                    entry.refused_at = confirmed;
                }
                entry.refusals += 1;
            }
            self.retry_later();
        }
    }

    fn retry_later(&mut self) {
        if self.retry_at.is_none() {
            self.retry_at = Some(Instant::now() + self.backoff.step());
        }
    }

    /// A message that no queue took is sent once more before it is stuck: what was missing may be declared by now. It is
    /// stuck only if others were taken since: where no queue takes anything, the mark has to stand.
    async fn try_again(&mut self) -> Result<Vec<Stuck>, Unavailable> {
        self.retry_at = None;
        let free = self.lanes.values().filter(|lane| !lane.held);
        let fronts = free.filter_map(|lane| lane.numbers.front().copied());
        let mut numbers: Vec<_> = fronts.collect();
        numbers.sort_unstable();
        let mut stuck = Vec::new();
        for number in numbers {
            let confirmed = self.confirmed;
            let Some(entry) = self.unsettled(number).filter(|one| one.failed.is_some()) else {
                continue;
            };
            if entry.content.is_err() || (entry.refusals > 1 && entry.refused_at < confirmed) {
                stuck.push(entry.stuck());
            } else {
                self.begin(number).await?;
            }
        }
        Ok(stuck)
    }

    fn advance(&mut self) {
        let settled = |entry: &mut WindowEntry| entry.unsettled.is_none();
        while let Some(entry) = self.entries.pop_front_if(settled) {
            self.mark = Some(entry.position);
            self.first += 1;
        }
    }

    fn entry(&mut self, number: u64) -> Option<&mut WindowEntry> {
        let index = usize::try_from(number.checked_sub(self.first)?).ok()?;
        self.entries.get_mut(index)
    }

    fn unsettled(&mut self, number: u64) -> Option<&mut Unsettled> {
        self.entry(number)?.unsettled.as_mut()
    }
}

impl Unsettled {
    fn stuck(&self) -> Stuck {
        Stuck {
            stream: self.stream.clone(),
            revision: self.revision,
            event_type: self.event_type.clone(),
            why: self.failed.clone().unwrap_or_default(),
        }
    }
}
