//! The history of a stream, from the database and the recent ids.

use rusqlite::{Connection, OptionalExtension, Result};
use uuid::Uuid;

use super::recent_ids::RecentIds;
use crate::append_rules::History;
use crate::event::{Position, revision_to_sql};

/// The events of one stream, for the append rules.
pub(super) struct StreamHistory<'a> {
    pub(super) connection: &'a Connection,
    pub(super) stream: i64,
    /// Readers see only events from this revision on that were created at `oldest` or later.
    pub(super) first: u64,
    pub(super) oldest: i64,
    /// The ids of the last events of all streams.
    pub(super) ids: &'a RecentIds,
}

impl StreamHistory<'_> {
    /// The position of the event with this revision, if readers can see it.
    pub(super) fn visible_at(&self, revision: u64) -> Result<Option<Position>> {
        if revision < self.first {
            return Ok(None);
        }
        let mut statement = self.connection.prepare_cached(
            "SELECT position FROM events WHERE stream = ?1 AND revision = ?2 AND created >= ?3",
        )?;
        let place = (self.stream, revision_to_sql(revision), self.oldest);
        let position = statement.query_row(place, |row| row.get(0)).optional()?;
        Ok(position.map(Position::from_sql))
    }
}

impl History for StreamHistory<'_> {
    type Error = rusqlite::Error;

    fn revision_of(&self, id: Uuid) -> Option<u64> {
        self.ids.revision_of(id, self.stream)
    }

    fn id_at(&self, revision: u64) -> Result<Option<Uuid>> {
        let mut statement = self
            .connection
            .prepare_cached("SELECT id FROM events WHERE stream = ?1 AND revision = ?2")?;
        let id = statement.query_row((self.stream, revision_to_sql(revision)), |row| row.get(0));
        Ok(id.optional()?.map(Uuid::from_bytes))
    }
}
