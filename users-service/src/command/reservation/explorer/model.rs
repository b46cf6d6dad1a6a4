//! A model of the event store. Its appends are idempotent, like the server's.

use crate::command::attempt::{AttemptOutcome, KnownCommand};
use crate::command::command_memory::Remembered;
use crate::command::reservation::{Holder, UserStatus};
use crate::domain::{Claim, ReservationName, UserId};
use crate::stored_event::{AcceptedCommand, CommandEvent, Fence, NoEvent, ReservationEvent};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use uuid::Uuid;

/// The number of a command.
pub(super) type CommandNumber = u32;

/// The id of an event. An event of a command has the number of the command. All other events have random ids, which are never
/// equal; they are `None` here.
type EventId = Option<CommandNumber>;

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum ModelEvent {
    /// Created or patched.
    Active(Claim),
    Deleted,
    Abandoned,
    Fenced,
}

/// An event in the memory of a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum MemoryEvent {
    Accepted(UserId),
    Resumed(UserId),
    Done(NoEvent),
}

/// What the callers of a command with a key were told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Told {
    Committed(UserId),
    WithoutEvent(NoEvent),
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Stream<E>(Vec<(EventId, E)>);

impl<E> Default for Stream<E> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<E> Stream<E> {
    /// The revision of the appended event. `None` if the stream does not have the expected revision.
    fn append(&mut self, expected: Option<u64>, id: EventId, event: E) -> Option<u64> {
        let next = expected.map_or(0, |revision| usize::try_from(revision).unwrap() + 1);
        if next == self.0.len() {
            self.0.push((id, event));
        } else if id.is_none() || self.0.get(next).is_none_or(|(stored, _)| *stored != id) {
            return None;
        }
        Some(next as u64)
    }

    fn last_revision(&self) -> Option<u64> {
        (self.0.len() as u64).checked_sub(1)
    }

    fn revision_of(&self, id: CommandNumber) -> Option<u64> {
        let found = self.0.iter().position(|(stored, _)| *stored == Some(id));
        found.map(|revision| revision as u64)
    }
}

/// All streams, what the callers were told, and how far sweep and eraser have followed the log.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Store {
    reservations: BTreeMap<ReservationName, Stream<ReservationEvent>>,
    users: BTreeMap<UserId, Stream<ModelEvent>>,
    tombstoned: BTreeSet<UserId>,
    memories: BTreeMap<CommandNumber, Stream<MemoryEvent>>,
    told: BTreeMap<CommandNumber, Told>,
    /// Whether two callers of one command were told different things.
    pub(super) is_contradicted: bool,
    /// The log, as far as the sweep and the eraser have not read it. `None` if they do not run beside the contenders.
    log: Option<Log>,
}

/// The part of the log that is not read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub(super) struct Log {
    pub(super) reservations: VecDeque<(ReservationName, ReservationEvent, u64)>,
    pub(super) deleted: VecDeque<UserId>,
}

impl Store {
    /// A store whose log is read while the contenders run.
    pub(super) fn logging() -> Self {
        Self {
            log: Some(Log::default()),
            ..Self::default()
        }
    }

    /// What is not read of the log. If nobody has followed it, this is all of it.
    pub(super) fn log(&mut self) -> &mut Log {
        if self.log.is_none() {
            self.log = Some(Log {
                reservations: self.claims().into(),
                deleted: self.users.keys().copied().collect(),
            });
        }
        self.log.get_or_insert_default()
    }

    pub(super) fn status(&self, user: UserId) -> UserStatus {
        let Some(stream) = self.users.get(&user) else {
            return UserStatus::Absent;
        };
        if self.tombstoned.contains(&user) {
            return UserStatus::Erased;
        }
        let mut status = UserStatus::Absent;
        for (revision, (_, event)) in (0..).zip(&stream.0) {
            status = match (status, event) {
                (_, ModelEvent::Active(claim)) => UserStatus::Active {
                    claim: claim.clone(),
                    revision,
                },
                (_, ModelEvent::Deleted) => UserStatus::Erased,
                (UserStatus::Active { claim, .. }, ModelEvent::Fenced) => {
                    UserStatus::Active { claim, revision }
                }
                (_, ModelEvent::Abandoned | ModelEvent::Fenced) => UserStatus::Abandoned,
            };
        }
        status
    }

    /// The revision of the command's event in the user's stream.
    pub(super) fn found(&self, user: UserId, command: CommandNumber) -> Option<u64> {
        let stream = self.users.get(&user)?;
        stream
            .revision_of(command)
            .filter(|_| !self.tombstoned.contains(&user))
    }

    pub(super) fn user_revision(&self, user: UserId) -> Option<u64> {
        self.users.get(&user).and_then(Stream::last_revision)
    }

    /// Every claim that is or was in a reservation.
    pub(super) fn claims(&self) -> Vec<(ReservationName, ReservationEvent, u64)> {
        let all = self.reservations.iter().flat_map(|(name, stream)| {
            let events = (0..).zip(&stream.0);
            events.map(|(revision, (_, event))| (name.clone(), event.clone(), revision))
        });
        all.filter(|(_, event, _)| matches!(event, ReservationEvent::Claimed { .. }))
            .collect()
    }

    /// The users who were deleted and whose streams are still there, with their last claims.
    pub(super) fn deleted(&self) -> Vec<(UserId, Claim)> {
        let users = self.users.keys();
        users
            .filter_map(|user| Some((*user, self.claim_of_deleted(*user)?)))
            .collect()
    }

    /// The last claim of a user who was deleted, and whose stream is still there.
    pub(super) fn claim_of_deleted(&self, user: UserId) -> Option<Claim> {
        let is_deleted = self.status(user) == UserStatus::Erased;
        let claim = self.last_claim(user).filter(|_| is_deleted)?;
        (!self.tombstoned.contains(&user)).then(|| claim.clone())
    }

    /// The claim of the user's last event that has one.
    pub(super) fn last_claim(&self, user: UserId) -> Option<&Claim> {
        let events = self.users.get(&user)?.0.iter().rev();
        let mut claims = events.filter_map(|(_, event)| match event {
            ModelEvent::Active(claim) => Some(claim),
            ModelEvent::Deleted | ModelEvent::Abandoned | ModelEvent::Fenced => None,
        });
        claims.next()
    }

    pub(super) fn append_to_user(
        &mut self,
        user: UserId,
        expected: Option<u64>,
        (id, event): (EventId, ModelEvent),
    ) -> Option<u64> {
        if self.tombstoned.contains(&user) {
            return None;
        }
        let is_deletion = event == ModelEvent::Deleted;
        let stream = self.users.entry(user).or_default();
        let before = stream.last_revision();
        let appended = stream.append(expected, id, event);
        let is_new = before != stream.last_revision();
        if let (Some(log), true) = (&mut self.log, is_deletion && is_new) {
            log.deleted.push_back(user);
        }
        appended
    }

    pub(super) fn fence(
        &mut self,
        user: UserId,
        fence: Fence,
        expected: Option<u64>,
    ) -> Option<u64> {
        let event = match fence {
            Fence::RegistrationAbandoned => ModelEvent::Abandoned,
            Fence::RenameFenced => ModelEvent::Fenced,
        };
        self.append_to_user(user, expected, (None, event))
    }

    pub(super) fn tombstone(&mut self, user: UserId) {
        self.tombstoned.insert(user);
    }

    pub(super) fn holder(&self, name: &ReservationName) -> Holder {
        let stream = self.reservations.get(name);
        let last = stream.and_then(|stream| stream.0.last().zip(stream.last_revision()));
        match last {
            Some(((_, ReservationEvent::Claimed { user, .. }), revision)) => {
                Holder::Claimed(*user, revision)
            }
            Some(((_, ReservationEvent::Released), revision)) => Holder::Nobody(Some(revision)),
            None => Holder::Nobody(None),
        }
    }

    pub(super) fn append_to_reservation(
        &mut self,
        name: &ReservationName,
        expected: Option<u64>,
        event: ReservationEvent,
    ) -> Option<u64> {
        let stream = self.reservations.entry(name.clone()).or_default();
        let revision = stream.append(expected, None, event.clone())?;
        if let (Some(log), ReservationEvent::Claimed { .. }) = (&mut self.log, &event) {
            log.reservations.push_back((name.clone(), event, revision));
        }
        Some(revision)
    }

    pub(super) fn last_revision_of(&self, name: &ReservationName) -> Option<u64> {
        self.reservations.get(name).and_then(Stream::last_revision)
    }

    pub(super) fn names(&self) -> Vec<ReservationName> {
        self.reservations.keys().cloned().collect()
    }

    pub(super) fn accept(&mut self, command: CommandNumber, user: UserId) -> Option<u64> {
        let memory = self.memories.entry(command).or_default();
        memory.append(None, None, MemoryEvent::Accepted(user))
    }

    pub(super) fn remember(
        &mut self,
        command: CommandNumber,
        head: u64,
        event: MemoryEvent,
    ) -> Option<u64> {
        self.memories
            .entry(command)
            .or_default()
            .append(Some(head), None, event)
    }

    pub(super) fn memory_head(&self, command: CommandNumber) -> Option<u64> {
        self.memories.get(&command).and_then(Stream::last_revision)
    }

    /// The commands that have a memory.
    pub(super) fn remembered(&self) -> Vec<CommandNumber> {
        self.memories.keys().copied().collect()
    }

    pub(super) fn known(&self, command: CommandNumber) -> Option<KnownCommand> {
        let mut remembered = None;
        for (head, (_, event)) in (0..).zip(&self.memories.get(&command)?.0) {
            let event = match *event {
                MemoryEvent::Accepted(user) => CommandEvent::Accepted(AcceptedCommand {
                    command: Uuid::nil(),
                    user,
                    body: None,
                    revision: None,
                }),
                MemoryEvent::Resumed(user) => CommandEvent::Resumed(user),
                MemoryEvent::Done(reason) => CommandEvent::Done(reason),
            };
            remembered = Remembered::after(remembered, event, head);
        }
        remembered.as_ref().map(Remembered::known)
    }

    /// Notes what a caller is told.
    pub(super) fn tell(&mut self, command: CommandNumber, outcome: AttemptOutcome) {
        let told = match outcome {
            AttemptOutcome::Committed { user, .. } => Told::Committed(user),
            AttemptOutcome::WithoutEvent { reason, .. } => Told::WithoutEvent(reason),
            // Nobody can know what the outcome was before the erasure, or there is none yet.
            AttemptOutcome::Gone | AttemptOutcome::Contended => return,
        };
        let before = self.told.entry(command).or_insert(told);
        self.is_contradicted |= *before != told;
    }

    /// Whether a command has two events, or one although a caller was told that it has none.
    pub(super) fn is_executed_wrongly(&self) -> bool {
        self.remembered().into_iter().any(|command| {
            let events = self.users.values();
            let events = events.filter_map(|stream| stream.revision_of(command));
            let allowed = match self.told.get(&command) {
                Some(Told::WithoutEvent(_)) => 0,
                Some(Told::Committed(_)) | None => 1,
            };
            events.count() > allowed
        })
    }

    /// Whether the user is active under this name.
    pub(super) fn holds(&self, user: UserId, name: &ReservationName) -> bool {
        self.name_of(user).as_ref() == Some(name)
    }

    fn name_of(&self, user: UserId) -> Option<ReservationName> {
        match self.status(user) {
            UserStatus::Active { claim, .. } => Some(claim.reservation),
            UserStatus::Absent | UserStatus::Abandoned | UserStatus::Erased => None,
        }
    }

    /// The names of all active users and their holders. `None` if two of them have the same name.
    pub(super) fn taken(&self) -> Option<BTreeMap<ReservationName, UserId>> {
        let mut taken = BTreeMap::new();
        let mut names = self
            .users
            .keys()
            .filter_map(|user| Some((self.name_of(*user)?, *user)));
        names
            .all(|(name, user)| taken.insert(name, user).is_none())
            .then_some(taken)
    }

    /// Whether a reservation ends with a claim of a user who does not hold the name.
    pub(super) fn has_a_claim_that_holds_nothing(&self) -> bool {
        self.reservations.keys().any(
            |name| matches!(self.holder(name), Holder::Claimed(user, _) if !self.holds(user, name)),
        )
    }
}
