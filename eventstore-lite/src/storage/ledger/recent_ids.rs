//! The ids of recent events, in memory. If an append accepts any revision, only its ids tell whether it is a retry.
//! As in the real server, an id belongs to the stream that it was first written to.
//!
//! Invariant: after a commit or a rollback, only committed events are here, at most `most`.

use std::collections::{HashMap, VecDeque};

use rusqlite::{Connection, Result};
use uuid::Uuid;

use crate::event::revision_to_sql;

/// The number of ids that the writer remembers.
pub(super) const REMEMBERED_IDS: usize = 64 * 1024;

/// Number of the stream, and the revision there.
type Place = (i64, u64);

#[derive(Debug)]
pub(super) struct RecentIds {
    most: usize,
    places: HashMap<Uuid, Place>,
    /// The ids in the order in which they were first written.
    order: VecDeque<Uuid>,
    /// The ids that the open transaction has written, each with its place before that.
    uncommitted: Vec<(Uuid, Option<Place>)>,
}

impl RecentIds {
    fn new(most: usize) -> Self {
        Self {
            most,
            places: HashMap::new(),
            order: VecDeque::new(),
            uncommitted: Vec::new(),
        }
    }

    /// Reads the ids of the last `most` events.
    pub(super) fn read(connection: &Connection, most: usize) -> Result<Self> {
        let mut statement = connection.prepare(
            "SELECT id, stream, revision FROM events WHERE length(id) = 16 ORDER BY position DESC LIMIT ?1",
        )?;
        let rows = statement.query_map([revision_to_sql(most as u64)], |row| {
            let id = Uuid::from_bytes(row.get(0)?);
            Ok((id, row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs()))
        })?;
        let last_first = rows.collect::<Result<Vec<_>>>()?;
        let mut ids = Self::new(most);
        for (id, stream, revision) in last_first.into_iter().rev() {
            ids.note(id, (stream, revision));
        }
        ids.commit();
        Ok(ids)
    }

    /// Notes that the open transaction writes an event with this id to this place.
    pub(super) fn note(&mut self, id: Uuid, place: Place) {
        let before = self.places.get(&id).copied();
        if before.is_some_and(|(stream, _)| stream != place.0) {
            return;
        }
        self.places.insert(id, place);
        if before.is_none() {
            self.order.push_back(id);
        }
        self.uncommitted.push((id, before));
    }

    /// Keeps the noted ids, and removes the oldest ids beyond the limit.
    pub(super) fn commit(&mut self) {
        self.uncommitted.clear();
        let excess = self.order.len().saturating_sub(self.most);
        for id in self.order.drain(..excess) {
            self.places.remove(&id);
        }
    }

    /// Removes the ids that were noted since the last commit.
    pub(super) fn rollback(&mut self) {
        while let Some((id, before)) = self.uncommitted.pop() {
            if let Some(place) = before {
                self.places.insert(id, place);
            } else {
                self.places.remove(&id);
                self.order.pop_back();
            }
        }
    }

    /// The last revision of this stream with the id, if the id was first written to this stream.
    pub(super) fn revision_of(&self, id: Uuid, stream: i64) -> Option<u64> {
        let place = self.places.get(&id).filter(|place| place.0 == stream);
        place.map(|(_, revision)| *revision)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u128) -> Uuid {
        Uuid::from_u128(number)
    }

    #[test]
    fn the_first_stream_of_the_last_ids_is_remembered() {
        let mut ids = RecentIds::new(3);
        for number in 0..=3 {
            ids.note(id(number), (1, 10));
            ids.note(id(number), (1, 11));
            ids.note(id(number), (2, 20));
            ids.commit();
        }
        for stream in [1, 2] {
            assert_eq!(ids.revision_of(id(0), stream), None);
        }
        for number in 1..=3 {
            assert_eq!(ids.revision_of(id(number), 1), Some(11));
            assert_eq!(ids.revision_of(id(number), 2), None);
        }
        assert_eq!((ids.places.len(), ids.order.len()), (3, 3));
    }

    #[test]
    fn a_rollback_leaves_the_ids_as_they_were() {
        let mut ids = RecentIds::new(2);
        ids.note(id(1), (1, 0));
        ids.note(id(2), (1, 1));
        ids.commit();
        ids.note(id(1), (1, 2));
        ids.note(id(1), (1, 3));
        ids.note(id(3), (1, 4));
        ids.note(id(4), (1, 5));
        ids.rollback();
        let known = [1, 2, 3, 4].map(|number| ids.revision_of(id(number), 1));
        assert_eq!(known, [Some(0), Some(1), None, None]);
        assert_eq!(ids.order, [id(1), id(2)]);
    }
}
