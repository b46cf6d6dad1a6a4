//! The clients of a group, and the choice of a client for each event. Pure.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use serde::Deserialize;

use crate::event::{RecordedEvent, ResolvedEvent};
use crate::persistent::settings::Strategy;
use crate::stream_name::StreamName;

/// The number of buckets to which streams or correlations are assigned for pinning.
const BUCKETS: u64 = 1024;

/// The id of a client. Ids are not reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct ClientId(pub(crate) u64);

/// The address and the name of a client's connection, as `GetInfo` and `List` show them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Peer {
    pub(crate) address: String,
    pub(crate) connection_name: String,
}

#[derive(Clone, Debug)]
pub(crate) struct Client {
    pub(crate) id: ClientId,
    pub(crate) peer: Peer,
    /// The maximum number of unsettled events.
    pub(crate) buffer_size: usize,
    pub(crate) in_flight: usize,
    /// How many events the client has settled.
    pub(crate) settled: u64,
}

impl Client {
    fn has_room(&self) -> bool {
        self.in_flight < self.buffer_size
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    Client(ClientId),
    /// No client takes this event now, but another event may find one.
    NotNow,
    /// No client has room.
    NoneFree,
}

#[derive(Clone, Copy, Debug)]
struct Pin {
    client: ClientId,
    in_flight: usize,
}

#[derive(Debug)]
pub(super) struct Clients {
    strategy: Strategy,
    /// In the order of their turns.
    list: Vec<Client>,
    pins: HashMap<u64, Pin>,
}

impl Clients {
    pub(super) fn new(strategy: Strategy) -> Self {
        Self {
            strategy,
            list: Vec::new(),
            pins: HashMap::new(),
        }
    }

    pub(super) fn iter(&self) -> impl ExactSizeIterator<Item = &Client> {
        self.list.iter()
    }

    /// Adds a client. Buckets without events in flight are assigned anew.
    pub(super) fn add(&mut self, client: Client) {
        self.list.push(client);
        self.pins.retain(|_, pin| pin.in_flight > 0);
    }

    pub(super) fn remove(&mut self, id: ClientId) {
        self.list.retain(|client| client.id != id);
        self.pins.retain(|_, pin| pin.client != id);
    }

    /// Chooses a client for this event.
    pub(super) fn choose(&mut self, event: &ResolvedEvent) -> Choice {
        let Some(free) = self.list.iter().position(Client::has_room) else {
            return Choice::NoneFree;
        };
        match self.strategy {
            Strategy::RoundRobin => {
                let client = self.list.remove(free);
                self.list.push(client);
                self.list
                    .last()
                    .map_or(Choice::NoneFree, |c| Choice::Client(c.id))
            }
            Strategy::DispatchToSingle => {
                self.list.rotate_left(free);
                Choice::Client(self.list[0].id)
            }
            Strategy::Pinned | Strategy::PinnedByCorrelation => self.pinned(event),
        }
    }

    fn pinned(&mut self, event: &ResolvedEvent) -> Choice {
        let Some(bucket) = self.bucket(event) else {
            return Choice::NoneFree;
        };
        let pinned = self.pins.get(&bucket).map(|pin| pin.client);
        let Some(id) = pinned.or_else(|| self.least_pinned()) else {
            return Choice::NoneFree;
        };
        self.pins.entry(bucket).or_insert(Pin {
            client: id,
            in_flight: 0,
        });
        let has_room = self.list.iter().any(|c| c.id == id && c.has_room());
        if has_room {
            Choice::Client(id)
        } else {
            Choice::NotNow
        }
    }

    fn least_pinned(&self) -> Option<ClientId> {
        let pins = |id| self.pins.values().filter(|pin| pin.client == id).count();
        self.list.iter().map(|c| c.id).min_by_key(|id| pins(*id))
    }

    pub(super) fn started(&mut self, id: ClientId, event: &ResolvedEvent) {
        if let Some(client) = self.list.iter_mut().find(|client| client.id == id) {
            client.in_flight += 1;
        }
        if let Some(pin) = self.bucket(event).and_then(|b| self.pins.get_mut(&b)) {
            pin.in_flight += 1;
        }
    }

    /// Removes an event from a client; `settled` tells whether the client settled it.
    pub(super) fn ended(&mut self, id: ClientId, event: &ResolvedEvent, settled: bool) {
        if let Some(client) = self.list.iter_mut().find(|client| client.id == id) {
            client.in_flight = client.in_flight.saturating_sub(1);
            client.settled += u64::from(settled);
        }
        let pin = self.bucket(event).and_then(|b| self.pins.get_mut(&b));
        if let Some(pin) = pin.filter(|pin| pin.client == id) {
            pin.in_flight = pin.in_flight.saturating_sub(1);
        }
    }

    fn bucket(&self, event: &ResolvedEvent) -> Option<u64> {
        let record = event.event.as_ref().or(event.link.as_ref())?;
        let mut hasher = DefaultHasher::new();
        match self.strategy {
            Strategy::RoundRobin | Strategy::DispatchToSingle => return None,
            Strategy::Pinned => source(record).hash(&mut hasher),
            Strategy::PinnedByCorrelation => match correlation(&record.metadata) {
                Some(correlation) => correlation.hash(&mut hasher),
                None => source(record).hash(&mut hasher),
            },
        }
        Some(hasher.finish() % BUCKETS)
    }
}

/// The stream that an event comes from. For a link it is the target stream, whether or not the target is visible.
fn source(record: &RecordedEvent) -> StreamName {
    let target = record.target();
    target.map_or_else(|| record.stream.clone(), |(_, stream)| stream)
}

fn correlation(metadata: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Correlated {
        #[serde(rename = "$correlationId")]
        correlation_id: String,
    }
    let correlated: Correlated = serde_json::from_slice(metadata).ok()?;
    Some(correlated.correlation_id)
}
