//! Runs one group: reads new events, delivers them, parks them and writes checkpoints. One task owns all of its
//! state.
//!
//! Invariant: a parked event is written before a checkpoint passes its place.

use std::collections::HashMap;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::time::{Duration, Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::group::{ClientId, Group, Message, Output, Peer};
use super::handle::{GroupCommand, GroupConnection, LiveCounts};
use super::info::Info;
use super::journal::Journal;
use super::reader::{ReadFailed, Reader};
use super::replays::Replays;
use super::settings::{GroupKey, Settings, Source};
use crate::event::Position;
use crate::storage::{ReadFrom, Storage, StorageFailed};

/// How often timeouts and checkpoints are checked, as in the real server.
const TICK: Duration = Duration::from_secs(1);

pub(super) struct Actor {
    key: GroupKey,
    settings: Settings,
    storage: Arc<Storage>,
    journal: Journal,
    group: Group,
    reader: Reader,
    head: watch::Receiver<Position>,
    clients: HashMap<ClientId, mpsc::Sender<Message>>,
    inbox: mpsc::Receiver<GroupCommand>,
    counts: Arc<LiveCounts>,
    replays: Replays,
    /// Events that wait to be parked. Writing them is retried until it succeeds.
    parking: Vec<(Message, String)>,
    checkpoint: Option<u64>,
    /// The last written checkpoint.
    written: Option<u64>,
    /// The last place that needs no further checkpoint, because one was written or would be useless.
    noted: u64,
    started: Instant,
    last_known: Option<u64>,
    /// How many events were read while the group was live.
    live: u64,
    /// Whether nothing can be read before the head moves.
    at_end: bool,
    /// Whether reading failed. The next tick retries it.
    failed: bool,
}

impl Actor {
    /// Loads the state of the group, and reads the first page.
    pub(super) async fn start(
        (key, settings): (GroupKey, Settings),
        storage: Arc<Storage>,
        inbox: mpsc::Receiver<GroupCommand>,
        counts: Arc<LiveCounts>,
    ) -> Result<Self, ReadFailed> {
        let mut journal = Journal::new(Arc::clone(&storage), key.clone());
        let checkpoint = journal.checkpoint().await?;
        let replays = Replays::start(&journal).await?;
        let head = match &key.source {
            Source::Stream(stream) => storage.head_of(stream),
            Source::All => storage.head(),
        };
        let noted = checkpoint.unwrap_or(settings.start_from.first().saturating_sub(1));
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
            replays,
            parking: Vec::new(),
            checkpoint: None,
            written: checkpoint,
            noted,
            started: now,
            last_known: None,
            live: 0,
            at_end: false,
            failed: false,
        };
        actor.read().await;
        Ok(actor)
    }

    /// Runs until it is stopped or the storage is closed. Then it saves its progress.
    pub(super) async fn run(mut self, stop: CancellationToken) {
        self.work(stop).await;
        // A command that is being sent just now would stay in the inbox unanswered while its sender waits. So all
        // commands are taken out and dropped, which ends the waiting.
        self.inbox.close();
        while let Some(command) = self.inbox.recv().await {
            if matches!(command, GroupCommand::Ack(_) | GroupCommand::Nack(..)) {
                self.handle(command);
            }
        }
        // A parked event is settled when it is written. After that, a checkpoint may pass it.
        self.run_outputs().await;
        self.group.finish(Instant::now());
        self.run_outputs().await;
        self.save_replays().await;
    }

    async fn work(&mut self, stop: CancellationToken) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.review_and_push().await;
            self.run_outputs().await;
            self.count();
            let has_room = self.group.room().is_some();
            if !has_room {
                self.reader.fall_behind();
                self.at_end = false;
            }
            if self.inbox.is_empty() {
                self.save_replays().await;
            }
            let has_room_to_replay = self.group.room_to_replay().is_some();
            let replays = self.replays.is_under_way() && has_room_to_replay && !self.failed;
            let reads = has_room && !self.at_end && !self.failed;
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                command = self.inbox.recv() => match command {
                    Some(command) => {
                        if matches!(command, GroupCommand::Info(_)) {
                            // Only saved state is reported.
                            self.save_replays().await;
                        }
                        self.handle(command);
                    }
                    None => return,
                },
                _ = ticks.tick(), if self.is_busy() => {
                    self.tick();
                    self.save_replays().await;
                }
                () = std::future::ready(()), if replays => self.replay().await,
                () = std::future::ready(()), if reads => self.read().await,
                changed = self.head.changed(), if self.at_end => match changed {
                    Ok(()) => self.at_end = false,
                    Err(_) => return,
                },
            }
        }
    }

    /// Sends waiting events, except those that were deleted in the meantime.
    async fn review_and_push(&mut self) {
        let from = match self.key.source {
            Source::Stream(_) => ReadFrom::Stream,
            Source::All => ReadFrom::Log,
        };
        let waiting = self.group.to_review(from);
        let seen = if waiting.is_empty() {
            Ok(Vec::new())
        } else {
            self.storage.review(waiting).await
        };
        if let Ok(seen) = seen {
            self.group.reviewed(seen);
            self.group.push(Instant::now());
        } else {
            tracing::error!("waiting events could not be reviewed; trying again");
            self.failed = true;
        }
    }

    fn is_busy(&self) -> bool {
        let waits_to_write = !self.parking.is_empty() || self.checkpoint.is_some();
        self.group.is_busy() || waits_to_write || self.replays.is_changed() || self.failed
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

    fn handle(&mut self, command: GroupCommand) {
        let now = Instant::now();
        match command {
            GroupCommand::Connect {
                peer,
                buffer_size,
                reply,
            } => {
                let unheard = reply.send(self.connect(peer, buffer_size));
                if let Err(Some(connection)) = unheard {
                    self.disconnect(connection.client);
                }
            }
            GroupCommand::Disconnect(client) => self.disconnect(client),
            GroupCommand::Ack(ids) => self.group.ack(&ids, now),
            GroupCommand::Nack(ids, action, reason) => self.group.nack(&ids, action, &reason, now),
            GroupCommand::Replay { stop_at } => self.replays.begin(stop_at),
            GroupCommand::Info(reply) => drop(reply.send(self.info())),
        }
    }

    fn connect(&mut self, peer: Peer, buffer_size: usize) -> Option<GroupConnection> {
        let client = self.group.connect(peer, buffer_size)?;
        let (sender, events) = mpsc::channel(buffer_size);
        self.clients.insert(client, sender);
        // A group without clients stops scanning for events that pass its filter. A new client resumes that.
        self.at_end = false;
        Some(GroupConnection { client, events })
    }

    fn disconnect(&mut self, client: ClientId) {
        if self.clients.remove(&client).is_some() {
            self.group.disconnect(client);
        }
    }

    /// Replays some of the parked events.
    async fn replay(&mut self) {
        let Some(room) = self.group.room_to_replay() else {
            return;
        };
        if let Ok(events) = self.replays.next(&self.journal, room).await {
            for (revision, event) in events {
                self.group.replay(revision, event);
            }
        } else {
            tracing::error!("parked events could not be replayed; trying again");
            self.failed = true;
        }
    }

    async fn save_replays(&mut self) {
        if self.replays.save(&self.journal).await.is_err() {
            tracing::error!("the settled replayed events could not be saved; trying again");
        }
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
                tracing::error!(%error, "a persistent subscription could not read; trying again");
                self.failed = true;
                return;
            }
        };
        // A group without clients reads ahead, but does not scan the whole log for events that pass its filter.
        let rests = self.clients.is_empty() && page.events.is_empty();
        self.at_end = page.is_end || rests;
        for (place, event) in page.events {
            self.last_known = Some(place);
            self.live += u64::from(is_live);
            self.group.read(place, event);
        }
        if let Some((place, count)) = page.filtered_out {
            self.group.filtered_out(place, count);
        }
    }

    async fn run_outputs(&mut self) {
        for output in self.group.outputs() {
            match output {
                Output::Push(client, message) => self.send(client, message),
                Output::Park(message, reason) => self.parking.push((message, reason)),
                Output::Checkpoint(place) => self.checkpoint = Some(place),
                Output::Replayed(revision) => self.replays.settled(revision),
            }
        }
        if !self.parking.is_empty() {
            self.park().await;
        }
        if let Some(place) = self.checkpoint
            && self.write_checkpoint(place).await.is_ok()
        {
            self.checkpoint = None;
        }
    }

    /// Writes a checkpoint, unless only persistent subscriptions to `$all` have written since the last one. Otherwise
    /// groups of `$all` would cause each other's checkpoints for ever.
    async fn write_checkpoint(&mut self, place: u64) -> Result<(), StorageFailed> {
        let (noted, to) = (Position(self.noted), Position(place));
        let is_filtered = self.settings.filter.is_some();
        if !is_filtered || self.storage.has_foreign_events(noted, to).await? {
            self.journal.write_checkpoint(place).await?;
            self.written = Some(place);
        }
        self.noted = place;
        Ok(())
    }

    /// If the client does not read, the event times out. The next tick notices a client that is gone.
    fn send(&mut self, client: ClientId, message: Message) {
        if let Some(sender) = self.clients.get(&client) {
            drop(sender.try_send(message));
        }
    }

    async fn park(&mut self) {
        if let Ok(end) = self.journal.park(&self.parking).await {
            if let Some(end) = end {
                self.replays.set_end(end);
            }
            for (message, _) in self.parking.drain(..) {
                self.group.parked(&message);
            }
        } else {
            tracing::error!("events could not be parked; trying again");
        }
    }

    fn count(&self) {
        let connections = self.group.clients().len();
        self.counts
            .set(self.replays.count(), self.group.in_flight(), connections);
    }

    fn info(&self) -> Info {
        Info {
            key: self.key.clone(),
            settings: self.settings.clone(),
            is_live: self.reader.is_live(),
            last_known: self.last_known,
            checkpoint: self.written,
            waiting: self.group.waiting(),
            waiting_retries: self.group.waiting_retries(),
            live: self.live,
            in_flight: self.group.in_flight(),
            parked: self.replays.count(),
            settled: self.group.settled(),
            age: self.started.elapsed(),
            clients: self.group.clients().cloned().collect(),
        }
    }
}
