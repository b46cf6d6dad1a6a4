//! The events that were read from the log and are not yet confirmed, in the log's order and in one lane per stream.
//!
//! Invariants: the low-water mark never passes an event that the broker has not confirmed and routed, unless its stream is
//! parked. At most one message of each stream is in flight, and the next one is sent after it is confirmed.

use event_streams::{Position, RecordedEvent};
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt as _};
use jittered_backoff::Backoff;
use messaging::{Message, PublishError, Publisher, Unavailable};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::time::{Instant, sleep_until};

/// The most entries. It is twice the group that `messaging::Publisher` sends at once, so that one group is prepared while the
/// broker confirms the other. The outbox takes as many, so sending never waits.
const ROOM: usize = 512;

/// The message of an event, or the reason why it has none.
pub(super) type Content = Result<Arc<Message>, String>;

/// The next thing that happened to the window.
pub(super) enum Settled {
    /// The broker answered for the entry of this number.
    Answer(u64, Result<(), PublishError>),
    /// It is time to retry the failed entries.
    Due,
}

/// A stream whose next event fails while those of other streams are confirmed. It is a candidate for parking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Stuck {
    pub(super) stream: String,
    /// The first unsent event.
    pub(super) revision: u64,
    pub(super) event_type: String,
    pub(super) why: String,
    /// Whether the broker did not take its message.
    pub(super) refused: bool,
}

pub(super) struct Window {
    publisher: Publisher,
    entries: VecDeque<WindowEntry>,
    /// The number of the first entry. Entries are numbered in the log's order.
    first: u64,
    low_water_mark: Option<Position>,
    lanes: HashMap<String, Lane>,
    answers: FuturesUnordered<BoxFuture<'static, (u64, Result<(), PublishError>)>>,
    /// The number of confirmed messages.
    confirmed: u64,
    backoff: Backoff,
    retry_at: Option<Instant>,
}

/// The unsettled entries of one stream.
#[derive(Default)]
struct Lane {
    numbers: VecDeque<u64>,
    /// A retry sends earlier events of this stream, so nothing is sent from here.
    held: bool,
}

struct WindowEntry {
    position: Position,
    /// `None` if nothing is left to send.
    unsettled: Option<Unsettled>,
}

struct Unsettled {
    stream: String,
    revision: u64,
    event_type: String,
    content: Content,
    /// Why it has to be retried.
    failed: Option<String>,
    /// How many times no queue took it.
    refusals: u32,
    /// The number of confirmed messages when no queue took this one for the first time.
    refused_at: u64,
}

impl Window {
    pub(super) fn new(publisher: Publisher) -> Self {
        Self {
            publisher,
            entries: VecDeque::new(),
            first: 0,
            low_water_mark: None,
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

    /// The position up to which every event is confirmed and routed, or its stream is parked. `None` at the beginning.
    pub(super) fn low_water_mark(&self) -> Option<Position> {
        self.low_water_mark
    }

    /// Why the oldest failed entry failed.
    pub(super) fn problem(&self) -> Option<&str> {
        let mut unsettled = self.entries.iter().filter_map(|one| one.unsettled.as_ref());
        unsettled.find_map(|one| one.failed.as_deref())
    }

    /// Sends the message of an event as soon as the earlier messages of its stream are confirmed.
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

    /// Notes a position that needs no message.
    pub(super) fn skip(&mut self, position: Position) {
        match self.entries.back_mut() {
            None => self.low_water_mark = Some(position),
            Some(last) if last.unsettled.is_none() => last.position = position,
            Some(_) => self.entries.push_back(WindowEntry {
                position,
                unsettled: None,
            }),
        }
    }

    /// Waits for the next [`Settled`] to [`take`](Self::take). May be cancelled at any time.
    pub(super) async fn next(&mut self) -> Settled {
        let due = self.retry_at;
        tokio::select! {
            Some((number, outcome)) = self.answers.next() => Settled::Answer(number, outcome),
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => Settled::Due,
            else => std::future::pending().await,
        }
    }

    /// Sends the messages that can be sent now, and moves the low-water mark. Returns the stuck streams.
    pub(super) async fn take(&mut self, settled: Settled) -> Result<Vec<Stuck>, Unavailable> {
        match settled {
            Settled::Answer(number, Ok(())) => {
                self.confirmed += 1;
                fail::fail_point!("confirmed-not-saved", |_| std::process::abort());
                if let Some(stream) = self.settle(number) {
                    self.send_next(&stream).await?;
                }
                self.advance();
                if self.problem().is_none() {
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

    /// Keeps the stream's entries back until [`unhold`](Self::unhold). Returns false if one is in flight.
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
        self.send_next(stream).await
    }

    /// Drops the entries of a stream, because it is parked, and returns the revision of the last one.
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

    /// Sends the oldest entry of a [`Stuck`] stream again, because the stream cannot be parked.
    pub(super) async fn send_again(&mut self, stream: &str) -> Result<(), Unavailable> {
        self.send_next(stream).await
    }

    async fn begin(&mut self, number: u64) -> Result<(), Unavailable> {
        let Some(entry) = self.unsettled(number) else {
            return Ok(());
        };
        match &entry.content {
            Ok(message) => {
                let message = Arc::clone(message);
                entry.failed = None;
                fail::fail_point!("before-publish", |_| std::process::abort());
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
    async fn send_next(&mut self, stream: &str) -> Result<(), Unavailable> {
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

    /// Marks the entry as done. Returns its stream, unless the entry was dropped before.
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

    /// A message that no queue took is sent once more before its stream counts as stuck, because the missing queue may be
    /// declared by now. It is stuck only if other messages were taken since. If no queue takes anything, the low-water mark
    /// must not move.
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
            self.low_water_mark = Some(entry.position);
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
            refused: self.content.is_ok(),
        }
    }
}
