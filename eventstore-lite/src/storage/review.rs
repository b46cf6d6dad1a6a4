//! Checks again whether events that were read a while ago are still visible, before they are sent to a client that
//! joined later.

use std::collections::HashMap;
use std::sync::Arc;

use rusqlite::{Connection, Result};

use super::records;
use super::visible::{StreamLookup, find};
use crate::clock;
use crate::event::{RecordedEvent, ResolvedEvent, TOMBSTONE_REVISION, revision_to_sql};
use crate::stream_name::StreamName;

/// An event that was read earlier, and its origin.
#[derive(Clone, Debug)]
pub(crate) struct ReviewItem {
    pub(crate) event: Arc<ResolvedEvent>,
    pub(crate) from: ReadFrom,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReadFrom {
    /// A stream. Its metadata may hide the event.
    Stream,
    /// The log. It has the event until a scavenge removes it.
    Log,
    /// The stream of parked events, which has been truncated since. Only the target of the link is checked.
    Truncated,
}

/// The part of an event that is still visible.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visibility {
    All,
    /// The link without its target.
    Link,
    Nothing,
}

pub(super) fn review(connection: &Connection, events: &[ReviewItem]) -> Result<Vec<Visibility>> {
    let mut review = Reviewer {
        connection,
        now: clock::now(),
        found: HashMap::new(),
    };
    events.iter().map(|event| review.look(event)).collect()
}

struct Reviewer<'a> {
    connection: &'a Connection,
    now: i64,
    found: HashMap<StreamName, StreamLookup>,
}

impl Reviewer<'_> {
    fn look(&mut self, ReviewItem { event, from }: &ReviewItem) -> Result<Visibility> {
        let Some(record) = event.link.as_ref().or(event.event.as_ref()) else {
            return Ok(Visibility::Nothing);
        };
        let is_seen = match from {
            ReadFrom::Stream => self.is_visible(record)?,
            ReadFrom::Log => self.is_in_log(record)?,
            ReadFrom::Truncated => true,
        };
        let target = event.link.as_ref().and(event.event.as_ref());
        Ok(match target {
            _ if !is_seen => Visibility::Nothing,
            Some(target) if !self.is_visible(target)? => Visibility::Link,
            Some(_) | None => Visibility::All,
        })
    }

    fn is_visible(&mut self, record: &RecordedEvent) -> Result<bool> {
        let name = &record.stream;
        if !self.found.contains_key(name) {
            let found = find(self.connection, name, self.now)?;
            self.found.insert(name.clone(), found);
        }
        match self.found.get(name) {
            Some(StreamLookup::Stream(stream))
                if record.revision >= stream.first && record.created >= stream.oldest =>
            {
                self.is_there(name, (stream.id, record.revision))
            }
            Some(StreamLookup::Tombstoned) => Ok(record.revision == TOMBSTONE_REVISION),
            Some(StreamLookup::Stream(_) | StreamLookup::Missing) | None => Ok(false),
        }
    }

    fn is_there(&self, name: &StreamName, (stream, revision): (i64, u64)) -> Result<bool> {
        let table = records::table(name);
        let sql = format!("SELECT 1 FROM {table} WHERE stream = ?1 AND revision = ?2");
        let mut statement = self.connection.prepare_cached(&sql)?;
        statement.exists((stream, revision_to_sql(revision)))
    }

    fn is_in_log(&self, record: &RecordedEvent) -> Result<bool> {
        let sql = "SELECT 1 FROM events WHERE position = ?1";
        let mut statement = self.connection.prepare_cached(sql)?;
        statement.exists([record.position.to_sql()])
    }
}
