//! One group as a state machine: the events that it has read and that are not settled, which client has them, and
//! which are to be retried. Pure: it is told about events, clients and time, and returns what to send, park and
//! checkpoint.
//!
//! Invariants: An event is pushed until it is acknowledged, skipped or parked. A client never has more events in
//! flight than its buffer size. Retries come in order, and before new events.

mod clients;
mod message;
mod pending_review;
mod progress;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use tokio::time::Instant;
use uuid::Uuid;

use self::clients::{Choice, Clients};
pub(crate) use self::clients::{Client, ClientId, Peer};
pub(crate) use self::message::{Message, Origin};
use self::pending_review::PendingReview;
use self::progress::Progress;
use super::settings::Settings;
use crate::event::ResolvedEvent;

/// A group that holds more bytes than this stops reading.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// The maximum number of parked events that are replayed at a time.
const MOST_REPLAYED: usize = 256;

/// An action for the owner of the group.
#[derive(Debug)]
pub(crate) enum Output {
    Push(ClientId, Message),
    /// After writing the event, the owner calls [`Group::parked`].
    Park(Message, String),
    /// Everything up to this place is settled.
    Checkpoint(u64),
    /// The replayed event that was parked at this revision is settled.
    Replayed(u64),
}

/// The request of a client that does not acknowledge an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NackAction {
    Retry,
    Park,
    Skip,
    /// Does nothing, as in the real server: the event times out.
    Stop,
}

#[derive(Debug)]
struct Outstanding {
    message: Message,
    client: ClientId,
    expires: Option<Instant>,
}

#[derive(Debug)]
pub(crate) struct Group {
    settings: Settings,
    clients: Clients,
    next_client: u64,
    /// Events to retry, ordered by origin.
    retries: VecDeque<Message>,
    fresh: VecDeque<Message>,
    outstanding: HashMap<Uuid, Outstanding>,
    progress: Progress,
    review: PendingReview,
    bytes: usize,
    /// How many replayed events are not settled.
    replayed: usize,
    settled: u64,
    outputs: Vec<Output>,
}

impl Group {
    /// A group that has settled all events up to `checkpoint`.
    pub(crate) fn new(settings: Settings, checkpoint: Option<u64>, now: Instant) -> Self {
        Self {
            clients: Clients::new(settings.named_consumer_strategy),
            settings,
            next_client: 0,
            retries: VecDeque::new(),
            fresh: VecDeque::new(),
            outstanding: HashMap::new(),
            progress: Progress::new(checkpoint, now),
            review: PendingReview::default(),
            bytes: 0,
            replayed: 0,
            settled: 0,
            outputs: Vec::new(),
        }
    }

    /// Takes the actions since the last call.
    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// How many events to read next: one batch, or none if the buffer is full.
    pub(crate) fn room(&self) -> Option<usize> {
        let batch = self.settings.batch_size();
        let room = self.settings.buffer_size().saturating_sub(self.fresh.len());
        (room >= batch && self.bytes < MOST_BYTES).then_some(batch)
    }

    /// How many parked events to replay next: many at a time, or none if enough are in progress.
    pub(crate) fn room_to_replay(&self) -> Option<usize> {
        let has_few = self.replayed <= MOST_REPLAYED / 2;
        (has_few && self.bytes < MOST_BYTES).then(|| MOST_REPLAYED - self.replayed)
    }

    /// Whether the passing of time can change anything.
    pub(crate) fn is_busy(&self) -> bool {
        let has_clients = self.clients.iter().len() > 0;
        !self.outstanding.is_empty() || has_clients || self.progress.is_waiting(&self.settings)
    }

    /// Adds the event that was read at this place.
    pub(crate) fn read(&mut self, place: u64, event: ResolvedEvent) {
        let sequence = self.progress.read(place);
        let message = Message::new(event, Origin::Read(sequence));
        self.bytes += message.size();
        self.fresh.push_back(message);
    }

    /// Notes that the filter left out `count` events up to this place.
    pub(crate) fn filtered_out(&mut self, place: u64, count: u64) {
        let filter = self.settings.filter.as_ref();
        let interval = filter.map_or(1, |filter| filter.interval);
        self.progress.filtered_out(place, count, interval);
    }

    /// Replays the event that was parked at this revision.
    pub(crate) fn replay(&mut self, revision: u64, event: ResolvedEvent) {
        let message = Message::new(event, Origin::Parked(revision));
        self.bytes += message.size();
        self.replayed += 1;
        self.requeue(message);
    }

    /// Adds a client that takes `buffer_size` events at once. `None` if the group has its maximum number of clients.
    pub(crate) fn connect(&mut self, peer: Peer, buffer_size: usize) -> Option<ClientId> {
        if self.clients.iter().len() >= self.settings.most_subscribers() {
            return None;
        }
        self.review.client_joined();
        let id = ClientId(self.next_client);
        self.next_client += 1;
        self.clients.add(Client {
            id,
            peer,
            buffer_size,
            in_flight: 0,
            settled: 0,
        });
        Some(id)
    }

    /// Removes a client. Its events are retried, however often they were before. Only events that time out or are
    /// rejected too often are parked.
    pub(crate) fn disconnect(&mut self, client: ClientId) {
        let lost = self.take_outstanding(|outstanding| outstanding.client == client);
        self.clients.remove(client);
        for mut message in lost {
            message.retry_count = message.retry_count.saturating_add(1);
            self.requeue(message);
        }
    }

    pub(crate) fn ack(&mut self, ids: &[Uuid], now: Instant) {
        for id in ids {
            if let Some(message) = self.end(*id, true) {
                self.settle(&message);
            }
        }
        self.checkpoint_if_due(false, now);
    }

    pub(crate) fn nack(&mut self, ids: &[Uuid], action: NackAction, reason: &str, now: Instant) {
        if action == NackAction::Stop {
            return;
        }
        for id in ids {
            let Some(message) = self.end(*id, true) else {
                continue;
            };
            match action {
                NackAction::Retry => self.retry(message),
                NackAction::Skip => self.settle(&message),
                NackAction::Park | NackAction::Stop => {
                    let reason = format!("Client explicitly NAK'ed message.\n{reason}");
                    self.outputs.push(Output::Park(message, reason));
                }
            }
        }
        self.checkpoint_if_due(false, now);
    }

    /// Settles an event that was written to the stream of parked events, or never can be.
    pub(crate) fn parked(&mut self, message: &Message) {
        self.settle(message);
    }

    /// Retries events that timed out, and issues a checkpoint if one is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        let late = |outstanding: &Outstanding| outstanding.expires.is_some_and(|at| at <= now);
        for message in self.take_outstanding(late) {
            self.retry(message);
        }
        self.checkpoint_if_due(true, now);
    }

    /// Pushes events to clients that have room.
    pub(crate) fn push(&mut self, now: Instant) {
        let retries = std::mem::take(&mut self.retries);
        let (retries, full) = self.push_from(retries, now);
        self.retries = retries;
        if !full {
            let fresh = std::mem::take(&mut self.fresh);
            self.fresh = self.push_from(fresh, now).0;
        }
    }

    /// Pushes from these messages. Returns the remaining ones, and whether no client has room.
    fn push_from(
        &mut self,
        mut messages: VecDeque<Message>,
        now: Instant,
    ) -> (VecDeque<Message>, bool) {
        let mut index = 0;
        while let Some(message) = messages.get(index) {
            // Ids need not be unique. A second event with the same id waits until the first is settled.
            let id = message.id();
            let choice = if self.outstanding.contains_key(&id) {
                Choice::NotNow
            } else {
                self.clients.choose(&message.event)
            };
            match choice {
                Choice::NoneFree => return (messages, true),
                Choice::NotNow => index += 1,
                Choice::Client(client) => {
                    if let Some(message) = messages.remove(index) {
                        self.start(id, client, message, now);
                    }
                }
            }
        }
        (messages, false)
    }

    fn start(&mut self, id: Uuid, client: ClientId, message: Message, now: Instant) {
        self.clients.started(client, &message.event);
        self.outputs.push(Output::Push(client, message.clone()));
        let expires = self.settings.message_timeout().map(|timeout| now + timeout);
        self.outstanding.insert(
            id,
            Outstanding {
                message,
                client,
                expires,
            },
        );
    }

    fn end(&mut self, id: Uuid, by_client: bool) -> Option<Message> {
        let ended = self.outstanding.remove(&id)?;
        self.clients
            .ended(ended.client, &ended.message.event, by_client);
        Some(ended.message)
    }

    fn take_outstanding(&mut self, which: impl Fn(&Outstanding) -> bool) -> Vec<Message> {
        let ids = self.outstanding.iter().filter(|(_, out)| which(out));
        let ids: Vec<Uuid> = ids.map(|(id, _)| *id).collect();
        let taken = ids.into_iter().filter_map(|id| self.end(id, false));
        let mut taken: Vec<Message> = taken.collect();
        taken.sort_by_key(|message| message.origin);
        taken
    }

    /// Retries the event, or parks it after too many retries.
    fn retry(&mut self, mut message: Message) {
        let most = self.settings.max_retry_count;
        if message.retry_count >= most {
            let reason = format!("Reached retry count of {most}");
            self.outputs.push(Output::Park(message, reason));
            return;
        }
        message.retry_count += 1;
        self.requeue(message);
    }

    fn requeue(&mut self, message: Message) {
        let before = |other: &Message| other.origin < message.origin;
        self.review.requeued();
        let index = self.retries.partition_point(before);
        self.retries.insert(index, message);
    }

    fn settle(&mut self, message: &Message) {
        self.bytes = self.bytes.saturating_sub(message.size());
        self.settled += 1;
        match message.origin {
            Origin::Read(sequence) => self.progress.settle(sequence),
            Origin::Parked(revision) => {
                self.replayed = self.replayed.saturating_sub(1);
                self.outputs.push(Output::Replayed(revision));
            }
        }
    }

    /// Issues a last checkpoint for what was settled, however little.
    pub(crate) fn finish(&mut self, now: Instant) {
        let last = self.progress.last(now);
        self.outputs.extend(last.map(Output::Checkpoint));
    }

    fn checkpoint_if_due(&mut self, by_time: bool, now: Instant) {
        let due = self.progress.due(by_time, now, &self.settings);
        self.outputs.extend(due.map(Output::Checkpoint));
    }
}

/// The state of a group, for reports.
impl Group {
    pub(crate) fn clients(&self) -> impl ExactSizeIterator<Item = &Client> {
        self.clients.iter()
    }

    /// How many events wait for their first delivery.
    pub(crate) fn waiting(&self) -> usize {
        self.fresh.len()
    }

    /// How many events wait for a retry.
    pub(crate) fn waiting_retries(&self) -> usize {
        self.retries.len()
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.outstanding.len()
    }

    /// How many events were settled.
    pub(crate) fn settled(&self) -> u64 {
        self.settled
    }
}
