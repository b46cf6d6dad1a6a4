//! One group at work: it reads after its place, hands out, parks and notes how far it has come, in one task that
//! owns all of its state.
//!
//! Invariant: what is parked is written before its place can be passed by a checkpoint.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::group::{ClientId, Group, Message, Output, Peer};
use super::handle::{Command, Connection, Counts};
use super::info::Info;
use super::journal::{Journal, Parked};
use super::reader::{ReadFailed, Reader};
use super::settings::{GroupKey, Settings, Source};
use crate::event::Position;
use crate::storage::{Storage, StorageFailed};

/// How often time-outs and checkpoints are looked at, as in the real server.
const TICK: Duration = Duration::from_secs(1);

/// A stop on the way through the parked events.
#[derive(Clone, Copy, Debug)]
struct Replay {
    next: u64,
    /// The first revision that is not replayed.
    stop: u64,
}

pub(super) struct Actor {
    key: GroupKey,
    settings: Settings,
    storage: Arc<Storage>,
    journal: Journal,
    group: Group,
    reader: Reader,
    head: watch::Receiver<Position>,
    clients: HashMap<ClientId, mpsc::Sender<Message>>,
    inbox: mpsc::Receiver<Command>,
    counts: Arc<Counts>,
    parked: Parked,
    replay: Option<Replay>,
    /// What waits to be written; it is tried again until it is.
    parking: Vec<(Message, String)>,
    checkpoint: Option<u64>,
    started: Instant,
    last_known: Option<u64>,
    /// How many events came while it was live.
    live: u64,
    /// Whether there is nothing to read before the head moves.
    at_end: bool,
    /// Whether reading failed, so that it is tried again with the next tick.
    failed: bool,
}

impl Actor {
    /// Reads how far the group has come, and the first page.
    pub(super) async fn start(
        (key, settings): (GroupKey, Settings),
        storage: Arc<Storage>,
        inbox: mpsc::Receiver<Command>,
        counts: Arc<Counts>,
    ) -> Result<Self, ReadFailed> {
        let mut journal = Journal::new(Arc::clone(&storage), key.clone());
        let checkpoint = journal.checkpoint().await?;
        let parked = journal.parked().await?;
        let head = match &key.source {
            Source::Stream(stream) => storage.head_of(stream),
            Source::All => storage.head(),
        };
        let now = Instant::now();
        let mut actor = Self {
            reader: Reader::new(key.clone(), &settings, checkpoint)?,
            group: Group::new(settings.clone(), checkpoint, now),
            key,
            settings,
            storage,
            journal,
            head,
            clients: HashMap::new(),
            inbox,
            counts,
            parked,
            replay: None,
            parking: Vec::new(),
            checkpoint: None,
            started: now,
            last_known: None,
            live: 0,
            at_end: false,
            failed: false,
        };
        actor.read().await;
        Ok(actor)
    }

    /// Works until it is stopped, or the storage is.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.work(stop).await;
        // A command that is being sent at this moment would stay in the inbox, unanswered, for as long as its sender
        // waits: all are taken out, and with them the ends on which their senders wait.
        self.inbox.close();
        while self.inbox.recv().await.is_some() {}
    }

    async fn work(&mut self, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.group.push(Instant::now());
            self.carry_out().await;
            self.count();
            let has_room = self.group.room().is_some();
            if !has_room {
                self.reader.fall_behind();
                self.at_end = false;
            }
            let replays = self.replay.is_some() && self.group.has_room_to_replay();
            let reads = has_room && !self.at_end && !self.failed;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                command = self.inbox.recv() => match command {
                    Some(command) => self.obey(command),
                    None => return,
                },
                _ = ticks.tick(), if self.is_busy() => self.tick(),
                () = std::future::ready(()), if replays => self.replay().await,
                () = std::future::ready(()), if reads => self.read().await,
                changed = self.head.changed(), if self.at_end => match changed {
                    Ok(()) => self.at_end = false,
                    Err(_) => return,
                },
            }
        }
    }

    fn is_busy(&self) -> bool {
        let waits_to_write = !self.parking.is_empty() || self.checkpoint.is_some();
        self.group.is_busy() || waits_to_write || self.failed
    }

    fn tick(&mut self) {
        self.failed = false;
        let gone = self.clients.iter().filter(|(_, sender)| sender.is_closed());
        let gone: Vec<ClientId> = gone.map(|(client, _)| *client).collect();
        for client in gone {
            self.disconnect(client);
        }
        self.group.tick(Instant::now());
    }

    fn obey(&mut self, command: Command) {
        let now = Instant::now();
        match command {
            Command::Connect {
                peer,
                buffer_size,
                reply,
            } => {
                let unheard = reply.send(self.connect(peer, buffer_size));
                if let Err(Some(connection)) = unheard {
                    self.disconnect(connection.client);
                }
            }
            Command::Disconnect(client) => self.disconnect(client),
            Command::Ack(ids) => self.group.ack(&ids, now),
            Command::Nack(ids, action, reason) => self.group.nack(&ids, action, &reason, now),
            Command::Replay { stop_at } => self.begin_replay(stop_at),
            Command::Info(reply) => drop(reply.send(self.info())),
        }
    }

    fn connect(&mut self, peer: Peer, buffer_size: usize) -> Option<Connection> {
        let client = self.group.connect(peer, buffer_size)?;
        let (sender, events) = mpsc::channel(buffer_size);
        self.clients.insert(client, sender);
        // A group without clients does not look on through what its filter leaves out.
        self.at_end = false;
        Some(Connection { client, events })
    }

    fn disconnect(&mut self, client: ClientId) {
        if self.clients.remove(&client).is_some() {
            self.group.disconnect(client);
        }
    }

    fn begin_replay(&mut self, stop_at: Option<u64>) {
        let stop = stop_at.map_or(self.parked.end, |stop| stop.min(self.parked.end));
        let next = self.parked.first;
        if self.replay.is_none() && next < stop {
            self.replay = Some(Replay { next, stop });
        }
    }

    /// Takes parked events up again, and takes them off the stream.
    async fn replay(&mut self) {
        let Some(Replay { next, stop }) = self.replay.take() else {
            return;
        };
        let limit = (stop - next).min(self.settings.batch_size() as u64);
        let replayed = self.journal.parked_events(next, limit).await;
        let taken = match replayed {
            Ok(events) => {
                for (revision, event) in events.list {
                    self.group.replay(revision, event);
                }
                events.next.min(stop)
            }
            Err(StorageFailed) => return tracing::error!("parked events could not be read"),
        };
        if let Err(StorageFailed) = self.journal.truncate_parked(taken).await {
            tracing::error!("parked events that were replayed could not be removed");
        }
        self.parked.first = taken;
        self.replay = (taken < stop).then_some(Replay { next: taken, stop });
    }

    async fn read(&mut self) {
        let Some(limit) = self.group.room() else {
            return;
        };
        self.head.mark_unchanged();
        let is_live = self.reader.is_live();
        let page = match self.reader.page(&self.storage, limit).await {
            Ok(page) => page,
            Err(error) => {
                tracing::error!(%error, "a persistent subscription could not read on");
                self.failed = true;
                return;
            }
        };
        // A group without clients reads ahead, but does not look through the whole log for what passes.
        let rests = self.clients.is_empty() && page.events.is_empty();
        self.at_end = page.is_end || rests;
        for (place, event) in page.events {
            self.last_known = Some(place);
            self.live += u64::from(is_live);
            self.group.read(place, event);
        }
        if let Some((place, count)) = page.left_out {
            self.group.left_out(place, count);
        }
    }

    async fn carry_out(&mut self) {
        for output in self.group.outputs() {
            match output {
                Output::Push(client, message) => self.send(client, message),
                Output::Park(message, reason) => self.parking.push((message, reason)),
                Output::Checkpoint(place) => self.checkpoint = Some(place),
            }
        }
        if !self.parking.is_empty() {
            self.park().await;
        }
        if let Some(place) = self.checkpoint
            && self.journal.write_checkpoint(place).await.is_ok()
        {
            self.checkpoint = None;
        }
    }

    /// Of a client that does not read, the event times out; one that is gone is noticed with the next tick.
    fn send(&mut self, client: ClientId, message: Message) {
        if let Some(sender) = self.clients.get(&client) {
            drop(sender.try_send(message));
        }
    }

    async fn park(&mut self) {
        if let Ok(end) = self.journal.park(&self.parking).await {
            self.parked.end = end.unwrap_or(self.parked.end);
            for (message, _) in self.parking.drain(..) {
                self.group.parked(&message);
            }
        } else {
            tracing::error!("events could not be parked yet");
        }
    }

    fn count(&self) {
        let connections = self.group.clients().len();
        self.counts
            .set(self.parked.count(), self.group.in_flight(), connections);
    }

    fn info(&self) -> Info {
        Info {
            key: self.key.clone(),
            settings: self.settings.clone(),
            is_live: self.reader.is_live(),
            last_known: self.last_known,
            checkpoint: self.group.checkpoint(),
            waiting: self.group.waiting(),
            waiting_again: self.group.waiting_again(),
            live: self.live,
            in_flight: self.group.in_flight(),
            parked: self.parked.count(),
            settled: self.group.settled(),
            age: self.started.elapsed(),
            clients: self.group.clients().cloned().collect(),
        }
    }
}
