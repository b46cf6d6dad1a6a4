//! Creates the links of system streams. A link is written in the transaction of its event. Earlier events get their
//! links step by step after a server starts with system streams for the first time.
//!
//! Invariant: every event up to `log.linked` has each of its links once. Later events have no links.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

use rusqlite::Result;

use super::Ledger;
use crate::event::{NewEvent, Position, RecordedEvent, revision_to_sql};
use crate::storage::rows::{self, EVENT, Place};
use crate::stream_name::StreamName;
use crate::system_streams::{self, IndexedEvent};

/// The limits of one transaction that links earlier events: events, and about as many bytes.
const MOST_EVENTS: usize = 1024;
const MOST_BYTES: usize = 1024 * 1024;

impl Ledger {
    /// The position up to which events have their links. If that is the end of the log, new events get their links
    /// when they are written.
    pub(in crate::storage) fn linked(&mut self) -> Result<Position> {
        let linked = self
            .connection
            .query_row("SELECT linked FROM log", [], |row| row.get(0))?;
        let linked = Position::from_sql(linked);
        self.makes_links = linked >= self.head;
        Ok(linked)
    }

    /// Links some of the events after `linked`. Returns the system streams that have changed.
    pub(in crate::storage) fn catch_up(&mut self, linked: Position) -> Result<HashSet<StreamName>> {
        self.begin()?;
        let head = self.head;
        let events = self.events_after(linked)?;
        let linked = events.last().map_or(head, |event| event.position);
        for event in &events {
            let place = Place {
                position: event.position,
                stream: self.stream(&event.stream)?.id,
                revision: event.revision,
                created: event.created,
            };
            let indexed = IndexedEvent {
                stream: &event.stream,
                revision: event.revision,
                event_type: &event.event_type,
                data: &event.data,
                metadata: &event.metadata,
            };
            self.add_links(place, &indexed)?;
        }
        self.connection
            .execute("UPDATE log SET linked = ?1", [linked.to_sql()])?;
        Ok(self.commit()?.0)
    }

    fn events_after(&self, position: Position) -> Result<Vec<RecordedEvent>> {
        let sql = format!("{EVENT} WHERE e.position > ?1 ORDER BY e.position LIMIT ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        let bounds = (position.to_sql(), revision_to_sql(MOST_EVENTS as u64));
        let (mut events, mut bytes) = (Vec::new(), 0);
        for event in statement.query_map(bounds, rows::event)? {
            let event = event?;
            bytes += event.data.len() + event.metadata.len();
            events.push(event);
            if bytes > MOST_BYTES {
                break;
            }
        }
        Ok(events)
    }

    /// Links to an event that was just written.
    pub(super) fn link(&mut self, name: &StreamName, place: Place, event: &NewEvent) -> Result<()> {
        if !self.makes_links {
            return Ok(());
        }
        let indexed = IndexedEvent {
            stream: name,
            revision: place.revision,
            event_type: &event.event_type,
            data: &event.data,
            metadata: &event.metadata,
        };
        self.add_links(place, &indexed)
    }

    /// Adds a link to each system stream of the event. Like an event, a link undeletes its stream. A tombstoned
    /// system stream still gets links, because filtered reads of the log use them.
    fn add_links(&mut self, place: Place, event: &IndexedEvent<'_>) -> Result<()> {
        for link in system_streams::links(event) {
            let target = self.stream(&link.target)?.id;
            let before = self.stream(&link.stream)?;
            let mut stream = before;
            let revision = before.last.map_or(0, |last| last + 1);
            rows::insert_link(&self.connection, (before.id, revision), place, target)?;
            stream.disordered = self.is_disordered(&link.stream, &before, place.created)?;
            stream.last = Some(revision);
            self.change(&link.stream, stream);
            if before.retention(&link.stream).is_soft_deleted() {
                self.undelete(&link.stream, before.last)?;
            }
        }
        Ok(())
    }
}
