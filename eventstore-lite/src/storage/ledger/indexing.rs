//! The links of system streams: made in the transaction of the event that they link to, or, for events of
//! before, when a server starts that is to make them.
//!
//! Invariant: events up to `log.linked` have all their links, each once; later ones have none.

#[cfg(test)]
mod tests;

use rusqlite::Result;

use super::Ledger;
use crate::event::{NewEvent, Position, RecordedEvent, revision_to_sql};
use crate::storage::rows::{self, EVENT, Place};
use crate::stream_name::StreamName;
use crate::system_streams::{self, Indexed};

/// The most events that are caught up with in one transaction, and about the most bytes of them.
const MOST_EVENTS: usize = 1024;
const MOST_BYTES: usize = 1024 * 1024;

impl Ledger {
    /// Makes links from now on, after those of the events that have none yet.
    pub(in crate::storage) fn make_links(&mut self) -> Result<()> {
        let linked = self
            .connection
            .query_row("SELECT linked FROM log", [], |row| row.get(0))?;
        let mut linked = Position::from_sql(linked);
        if linked < self.head {
            tracing::info!("system streams are brought up to date");
        }
        while linked < self.head {
            linked = self.catch_up(linked)?;
        }
        self.makes_links = true;
        Ok(())
    }

    /// Makes the links of events after `linked`; returns up to where all are made.
    fn catch_up(&mut self, linked: Position) -> Result<Position> {
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
            let indexed = Indexed {
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
        self.commit()?;
        Ok(linked)
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
        let indexed = Indexed {
            stream: name,
            revision: place.revision,
            event_type: &event.event_type,
            data: &event.data,
            metadata: &event.metadata,
        };
        self.add_links(place, &indexed)
    }

    /// A link undeletes its stream as an event would. Of a tombstoned stream nothing is seen, but its links go
    /// on: they also serve reads of the log that are filtered.
    fn add_links(&mut self, place: Place, event: &Indexed<'_>) -> Result<()> {
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
