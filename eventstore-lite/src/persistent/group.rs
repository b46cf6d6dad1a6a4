//! One group as a state machine: what it read and nobody has settled yet, who has it, what comes again. Pure: it
//! is told of events, clients and time, and says what is to be sent, parked and noted.
//!
//! Invariants: an event that was read is pushed until it is acknowledged, skipped or parked; a client has at
//! most as many events in flight as it takes; what comes again comes in its order and before what is new.

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

/// While a group keeps more bytes of events than this, it reads no more.
const MOST_BYTES: usize = 32 * 1024 * 1024;
/// The most parked events that come again at a time.
const MOST_REPLAYED: usize = 256;

/// What is to be done.
#[derive(Debug)]
pub(crate) enum Output {
    Push(ClientId, Message),
    /// When it is written, [`Group::parked`] is to be told.
    Park(Message, String),
    /// Everything up to this place is settled.
    Checkpoint(u64),
    /// The event that was parked at this revision came again and is settled.
    Replayed(u64),
}

/// What a client says of an event that it does not acknowledge.
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
    /// What comes again, by its origin.
    retries: VecDeque<Message>,
    fresh: VecDeque<Message>,
    outstanding: HashMap<Uuid, Outstanding>,
    progress: Progress,
    review: PendingReview,
    bytes: usize,
    /// How many parked events came again and are not settled yet.
    replayed: usize,
    settled: u64,
    outputs: Vec<Output>,
}

impl Group {
    /// A group that has settled everything up to `checkpoint`.
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

    /// What is to be done since this was last asked.
    pub(crate) fn outputs(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// How many more events it takes: a batch at a time, none while it has enough.
    pub(crate) fn room(&self) -> Option<usize> {
        let batch = self.settings.batch_size();
        let room = self.settings.buffer_size().saturating_sub(self.fresh.len());
        (room >= batch && self.bytes < MOST_BYTES).then_some(batch)
    }

    /// How many more of the parked events it takes: many at a time, none while it has enough.
    pub(crate) fn room_to_replay(&self) -> Option<usize> {
        let has_few = self.replayed <= MOST_REPLAYED / 2;
        (has_few && self.bytes < MOST_BYTES).then(|| MOST_REPLAYED - self.replayed)
    }

    /// Whether time changes anything.
    pub(crate) fn is_busy(&self) -> bool {
        let has_clients = self.clients.iter().len() > 0;
        !self.outstanding.is_empty() || has_clients || self.progress.is_waiting(&self.settings)
    }

    /// The event at this place was read.
    pub(crate) fn read(&mut self, place: u64, event: ResolvedEvent) {
        let sequence = self.progress.read(place);
        let message = Message::new(event, Origin::Read(sequence));
        self.bytes += message.size();
        self.fresh.push_back(message);
    }

    /// The filter left out so many events up to this place.
    pub(crate) fn filtered_out(&mut self, place: u64, count: u64) {
        let filter = self.settings.filter.as_ref();
        let interval = filter.map_or(1, |filter| filter.interval);
        self.progress.filtered_out(place, count, interval);
    }

    /// The parked event at this revision is to come again.
    pub(crate) fn replay(&mut self, revision: u64, event: ResolvedEvent) {
        let message = Message::new(event, Origin::Parked(revision));
        self.bytes += message.size();
        self.replayed += 1;
        self.requeue(message);
    }

    /// A client that takes `buffer_size` events at once; `None` if there are as many clients as there may be.
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

    /// The client is gone: what it had comes again, however often it came before. Only what times out or is refused
    /// too often is parked.
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

    /// The event was written to the stream of parked events, or cannot ever be.
    pub(crate) fn parked(&mut self, message: &Message) {
        self.settle(message);
    }

    /// What was in flight for too long comes again; a checkpoint may be due.
    pub(crate) fn tick(&mut self, now: Instant) {
        let late = |outstanding: &Outstanding| outstanding.expires.is_some_and(|at| at <= now);
        for message in self.take_outstanding(late) {
            self.retry(message);
        }
        self.checkpoint_if_due(true, now);
    }

    /// Sends what can be sent.
    pub(crate) fn push(&mut self, now: Instant) {
        let retries = std::mem::take(&mut self.retries);
        let (retries, full) = self.push_from(retries, now);
        self.retries = retries;
        if !full {
            let fresh = std::mem::take(&mut self.fresh);
            self.fresh = self.push_from(fresh, now).0;
        }
    }

    /// What is left, and whether nobody takes any more.
    fn push_from(
        &mut self,
        mut messages: VecDeque<Message>,
        now: Instant,
    ) -> (VecDeque<Message>, bool) {
        let mut index = 0;
        while let Some(message) = messages.get(index) {
            // Ids need not be unique; a second event with one waits until the first is settled.
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

    /// Has the event come again, or parks it if it came too often.
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

    /// The group ends: what was settled is noted, however little.
    pub(crate) fn finish(&mut self, now: Instant) {
        let last = self.progress.last(now);
        self.outputs.extend(last.map(Output::Checkpoint));
    }

    fn checkpoint_if_due(&mut self, by_time: bool, now: Instant) {
        let due = self.progress.due(by_time, now, &self.settings);
        self.outputs.extend(due.map(Output::Checkpoint));
    }
}

/// How a group stands.
impl Group {
    pub(crate) fn clients(&self) -> impl ExactSizeIterator<Item = &Client> {
        self.clients.iter()
    }

    /// How many events wait for the first time.
    pub(crate) fn waiting(&self) -> usize {
        self.fresh.len()
    }

    /// How many events wait to come again.
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
