//! The state of the writer. It decides on changes and makes them in a transaction that its owner begins and ends.
//!
//! Invariant: `streams` and `recent_ids` agree with the open transaction. When a transaction fails, `streams` is
//! emptied, and `recent_ids` returns to the last commit.

mod history;
mod indexing;
mod metadata;
mod recent_ids;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use bytes::Bytes;
use rusqlite::{Connection, Result};
use uuid::Uuid;

use history::StreamHistory;
use recent_ids::RecentIds;

use super::rows::{self, Place, Stream};
use super::{Change, Outcome, Write, records};
use crate::append_rules::{Decision, decide};
use crate::clock::{self, Clock};
use crate::event::{NewEvent, Position, RecordedEvent, STREAM_DELETED, TOMBSTONE_REVISION};
use crate::retention;
use crate::stream_name::StreamName;

/// How many streams are cached between transactions.
const REMEMBERED_STREAMS: usize = 50_000;

pub(super) struct Ledger {
    connection: Connection,
    streams: HashMap<StreamName, Stream>,
    changed: HashSet<StreamName>,
    /// The events of this transaction, in the order of the log.
    written: Vec<RecordedEvent>,
    next_stream: i64,
    /// The last position that was given out, and the last committed position.
    head: Position,
    committed: Position,
    clock: Clock,
    /// The time of this transaction, the time of the last event, and the latest time of all events.
    created: i64,
    last: i64,
    latest: i64,
    recent_ids: RecentIds,
    /// Whether new events get links in system streams.
    makes_links: bool,
}

impl Ledger {
    pub(super) fn open(connection: Connection) -> Result<Self> {
        Self::remembering(connection, recent_ids::REMEMBERED_IDS)
    }

    /// Opens a ledger that remembers the ids of at most `ids` events.
    pub(super) fn remembering(connection: Connection, ids: usize) -> Result<Self> {
        let one = |sql| connection.query_row(sql, [], |row| row.get::<_, i64>(0));
        let head = Position::from_sql(one("SELECT head FROM log")?);
        let next_stream = one("SELECT coalesce(max(id), 0) + 1 FROM streams")?;
        let last =
            one("SELECT coalesce((SELECT created FROM events ORDER BY position DESC LIMIT 1), 0)")?;
        let latest = last.max(one("SELECT latest FROM log")?);
        clock::warn_if_ahead(last, clock::now());
        let recent_ids = RecentIds::read(&connection, ids)?;
        Ok(Self {
            connection,
            streams: HashMap::new(),
            changed: HashSet::new(),
            written: Vec::new(),
            next_stream,
            head,
            committed: head,
            clock: Clock::System,
            created: 0,
            last,
            latest,
            recent_ids,
            makes_links: false,
        })
    }

    pub(super) fn committed(&self) -> Position {
        self.committed
    }

    pub(super) fn begin(&mut self) -> Result<()> {
        self.created = self.clock.now();
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    /// Makes all changes since [`Ledger::begin`] durable. Returns the changed streams and the new events.
    pub(super) fn commit(&mut self) -> Result<(HashSet<StreamName>, Vec<RecordedEvent>)> {
        for name in &self.changed {
            rows::save_stream(&self.connection, name, &self.streams[name])?;
        }
        if self.head != self.committed {
            let mut statement = self.connection.prepare_cached(
                "UPDATE log SET head = ?1, linked = CASE WHEN ?2 THEN ?1 ELSE linked END, latest = ?3",
            )?;
            statement.execute((self.head.to_sql(), self.makes_links, self.latest))?;
        }
        self.connection.execute_batch("COMMIT")?;
        self.recent_ids.commit();
        self.committed = self.head;
        if self.streams.len() > REMEMBERED_STREAMS {
            self.streams.clear();
        }
        let changed = std::mem::take(&mut self.changed);
        Ok((changed, std::mem::take(&mut self.written)))
    }

    /// Discards all changes since [`Ledger::begin`].
    pub(super) fn rollback(&mut self) -> Result<()> {
        self.streams.clear();
        self.changed.clear();
        self.written.clear();
        self.recent_ids.rollback();
        self.head = self.committed;
        if self.connection.is_autocommit() {
            return Ok(());
        }
        self.connection.execute_batch("ROLLBACK")
    }

    #[cfg(test)]
    pub(super) fn set_clock(&mut self, clock: Clock) {
        self.clock = clock;
    }

    /// Gives access between transactions to work that changes neither streams nor the last position.
    pub(super) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Merges the write-ahead log into the database, unless a reader still needs it. Then one file holds the whole
    /// database.
    pub(super) fn close(self) -> Result<()> {
        self.connection.busy_timeout(Duration::ZERO)?;
        let merge = "PRAGMA wal_checkpoint(TRUNCATE)";
        self.connection.query_row(merge, [], |_| Ok(()))
    }

    /// Decides whether a change is made, and makes it.
    pub(super) fn apply(&mut self, write: &Write) -> Result<Outcome> {
        let stream = self.stream(&write.stream)?;
        let ids: Vec<Uuid> = write.change.ids().collect();
        let mut state = stream.state(&write.stream);
        // Like the real server, accepts metadata of a tombstoned stream if there was metadata before.
        let is_more = matches!(write.change, Change::Append(_)) && stream.last.is_some();
        state.tombstoned |= !is_more && self.is_metastream_of_tombstoned(&write.stream)?;
        let retention = stream.retention(&write.stream);
        let history = StreamHistory {
            connection: &self.connection,
            stream: stream.id,
            first: retention.first_visible(stream.last.unwrap_or(0)),
            oldest: retention.oldest_visible(self.created).unwrap_or(i64::MIN),
            ids: &self.recent_ids,
        };
        match decide(write.expected, &state, &ids, &history)? {
            Decision::StreamDeleted => Ok(Outcome::StreamDeleted(write.stream.clone())),
            Decision::WrongRevision => Ok(Outcome::WrongRevision {
                current: stream.last,
            }),
            Decision::AlreadyWritten(revision) => Ok(Outcome::Written {
                revision: Some(revision),
                position: history.visible_at(revision)?,
            }),
            Decision::Write => self.write(write),
        }
    }

    fn write(&mut self, write: &Write) -> Result<Outcome> {
        match &write.change {
            Change::Append(events) => self.append(&write.stream, events),
            Change::SoftDelete => self.soft_delete(&write.stream),
            Change::Tombstone => self.tombstone(&write.stream),
        }
    }

    /// Appends the events. Undeletes the stream, or the stream whose metadata this one holds. An empty append also
    /// takes a position.
    fn append(&mut self, name: &StreamName, events: &[NewEvent]) -> Result<Outcome> {
        let before = self.stream(name)?;
        for event in events {
            self.append_event(name, event)?;
        }
        if events.is_empty() {
            self.head = self.head.next();
        }
        let written = Outcome::Written {
            revision: self.stream(name)?.last,
            position: Some(self.head),
        };
        if before.retention(name).is_soft_deleted() {
            self.undelete(name, before.last)?;
        }
        if let Some(original) = name.original() {
            self.metadata_changed(&original, events)?;
        }
        Ok(written)
    }

    fn soft_delete(&mut self, name: &StreamName) -> Result<Outcome> {
        let stream = self.stream(name)?;
        if stream.last.is_none() && !stream.has_metadata {
            return Ok(Outcome::WrongRevision { current: None });
        }
        let metastream = name.metastream();
        if self.stream(&metastream)?.tombstoned {
            return Ok(Outcome::StreamDeleted(metastream));
        }
        self.write_metadata(name, retention::soft_delete())?;
        Ok(Outcome::Written {
            revision: None,
            position: Some(self.head),
        })
    }

    fn tombstone(&mut self, name: &StreamName) -> Result<Outcome> {
        let mut stream = self.stream(name)?;
        stream.tombstoned = true;
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: STREAM_DELETED.to_owned(),
            is_json: false,
            data: Bytes::new(),
            metadata: Bytes::new(),
        };
        let place = self.insert(name, (stream.id, TOMBSTONE_REVISION), &event)?;
        self.change(name, stream);
        self.link(name, place, &event)?;
        if let Some(original) = name.original() {
            self.set_retention(&original, &event)?;
        }
        Ok(Outcome::Written {
            revision: None,
            position: Some(self.head),
        })
    }

    fn append_event(&mut self, name: &StreamName, event: &NewEvent) -> Result<()> {
        let mut stream = self.stream(name)?;
        let revision = stream.last.map_or(0, |last| last + 1);
        stream.disordered = self.is_disordered(name, &stream, self.created)?;
        let place = self.insert(name, (stream.id, revision), event)?;
        stream.last = Some(revision);
        self.recent_ids.note(event.id, (stream.id, revision));
        self.change(name, stream);
        self.link(name, place, event)
    }

    fn insert(
        &mut self,
        name: &StreamName,
        (stream, revision): (i64, u64),
        event: &NewEvent,
    ) -> Result<Place> {
        self.head = self.head.next();
        clock::warn_if_ahead(self.last, self.created);
        self.last = self.created;
        self.latest = self.latest.max(self.created);
        let place = Place {
            position: self.head,
            stream,
            revision,
            created: self.created,
        };
        rows::insert_event(&self.connection, place, event)?;
        self.written.push(rows::recorded(name, place, event));
        Ok(place)
    }

    /// Whether some record of the stream is older than its predecessor, once a record with the time `created` is
    /// added.
    fn is_disordered(&self, name: &StreamName, stream: &Stream, created: i64) -> Result<bool> {
        let Some(last) = stream
            .last
            .filter(|_| created < self.latest && !stream.disordered)
        else {
            return Ok(stream.disordered);
        };
        let before = records::created_at(&self.connection, (name, stream.id), last)?;
        Ok(before.is_some_and(|before| before > created))
    }

    fn change(&mut self, name: &StreamName, stream: Stream) {
        self.streams.insert(name.clone(), stream);
        self.changed.insert(name.clone());
    }

    fn is_metastream_of_tombstoned(&mut self, name: &StreamName) -> Result<bool> {
        name.original()
            .map_or(Ok(false), |original| Ok(self.stream(&original)?.tombstoned))
    }

    /// The stream as the open transaction sees it, or a new one.
    fn stream(&mut self, name: &StreamName) -> Result<Stream> {
        if let Some(stream) = self.streams.get(name) {
            return Ok(*stream);
        }
        let stream = match rows::find_stream(&self.connection, name)? {
            Some(stream) => stream,
            None => self.new_stream(),
        };
        self.streams.insert(name.clone(), stream);
        Ok(stream)
    }

    fn new_stream(&mut self) -> Stream {
        let id = self.next_stream;
        self.next_stream += 1;
        Stream::new(id)
    }
}
