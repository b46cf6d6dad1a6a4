//! Reads pages of the log of all events.

mod by_prefix;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rusqlite::{Connection, Result};

use super::links::Resolver;
use super::read_stream::PAGE_BYTES;
use super::rows::{self, EVENT};
use crate::clock;
use crate::event::{Direction, Position, RecordedEvent, ResolvedEvent, revision_to_sql};
use crate::filter::{Filter, InvalidFilter, belongs_to_group_of_all};

/// The maximum number of events that a page looks at one by one, and that it returns.
const LONGEST_SCAN: usize = 2048;
const MOST_EVENTS: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct AllRead {
    pub(crate) direction: Direction,
    /// Reading forwards, the first position to look at; reading backwards, the position before which to begin.
    pub(crate) from: Position,
    /// The maximum number of events in the page, at least 1.
    pub(crate) limit: usize,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) resolve_links: bool,
}

/// A position that a read has reached. All earlier events were returned before or filtered out. The event at this
/// position is present if it passed the filter.
#[derive(Clone, Debug)]
pub(crate) struct ScannedPosition {
    pub(crate) position: Position,
    pub(crate) event: Option<ResolvedEvent>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct AllPage {
    pub(crate) scanned: Vec<ScannedPosition>,
    /// Whether the end was reached.
    pub(crate) is_end: bool,
}

impl AllPage {
    /// Where the next page begins, in the direction of this read.
    pub(crate) fn next(&self, read: &AllRead) -> Position {
        let last = self.scanned.last().map(|scanned| scanned.position);
        match read.direction {
            Direction::Forwards => last.map_or(read.from, Position::next),
            Direction::Backwards => last.unwrap_or(read.from),
        }
    }
}

impl AllRead {
    pub(super) fn passes(
        &self,
        stream: &str,
        event_type: &str,
    ) -> std::result::Result<bool, InvalidFilter> {
        let filter = self.filter.as_ref();
        filter.map_or(Ok(true), |filter| filter.matches(stream, event_type))
    }
}

pub(super) fn read(
    connection: &Connection,
    read: &AllRead,
) -> Result<std::result::Result<AllPage, InvalidFilter>> {
    let pager = Pager::new(connection, read);
    match by_prefix::cheap_sources(connection, read)? {
        Some(sources) => by_prefix::read(pager, &sources),
        None if read.filter.is_none() => every(pager).map(Ok),
        None => scan(pager),
    }
}

/// Whether there is an event after `after` and up to `to` that was not written by a persistent subscription to
/// `$all`.
pub(super) fn has_foreign_events(
    connection: &Connection,
    (after, to): (Position, Position),
) -> Result<bool> {
    let mut statement = connection.prepare_cached(
        "SELECT s.name FROM events e CROSS JOIN streams s ON s.id = e.stream
         WHERE e.position > ?1 AND e.position <= ?2 ORDER BY e.position",
    )?;
    let mut rows = statement.query((after.to_sql(), to.to_sql()))?;
    while let Some(row) = rows.next()? {
        if !belongs_to_group_of_all(row.get_ref(0)?.as_str()?) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A page that is being read.
struct Pager<'a> {
    read: &'a AllRead,
    resolver: Resolver<'a>,
    page: AllPage,
    matched: usize,
    bytes: usize,
}

impl<'a> Pager<'a> {
    fn new(connection: &'a Connection, read: &'a AllRead) -> Self {
        Self {
            read,
            resolver: Resolver {
                connection,
                resolve_links: read.resolve_links,
                now: clock::now(),
            },
            page: AllPage::default(),
            matched: 0,
            bytes: 0,
        }
    }

    /// Adds a position that was looked at. Returns whether the page is full.
    fn add(&mut self, position: Position, passes: bool) -> Result<bool> {
        let record = if passes {
            rows::event_at_position(self.resolver.connection, position)?
        } else {
            None
        };
        self.add_record(position, record)
    }

    fn add_record(&mut self, position: Position, record: Option<RecordedEvent>) -> Result<bool> {
        let mut event = None;
        if let Some(record) = record {
            self.bytes += record.data.len() + record.metadata.len();
            self.matched += 1;
            event = Some(self.resolver.resolve(record)?);
        }
        self.page.scanned.push(ScannedPosition { position, event });
        Ok(self.matched >= self.read.limit.min(MOST_EVENTS) || self.bytes > PAGE_BYTES)
    }
}

/// Reads every event.
fn every(mut pager: Pager<'_>) -> Result<AllPage> {
    let (condition, order) = match pager.read.direction {
        Direction::Forwards => (">=", ""),
        Direction::Backwards => ("<", "DESC"),
    };
    let sql = format!("{EVENT} WHERE e.position {condition} ?1 ORDER BY e.position {order}");
    let mut statement = pager.resolver.connection.prepare_cached(&sql)?;
    let mut rows = statement.query([pager.read.from.to_sql()])?;
    while let Some(row) = rows.next()? {
        let record = rows::event(row)?;
        if pager.add_record(record.position, Some(record))? {
            return Ok(pager.page);
        }
    }
    pager.page.is_end = true;
    Ok(pager.page)
}

/// Looks at every event, and reads those that pass the filter.
fn scan(mut pager: Pager<'_>) -> Result<std::result::Result<AllPage, InvalidFilter>> {
    let read = pager.read;
    let mut statement = pager
        .resolver
        .connection
        .prepare_cached(match read.direction {
        Direction::Forwards => {
            "SELECT e.position, s.name, e.type FROM events e CROSS JOIN streams s ON s.id = e.stream
                 WHERE e.position >= ?1 ORDER BY e.position LIMIT ?2"
        }
        Direction::Backwards => {
            "SELECT e.position, s.name, e.type FROM events e CROSS JOIN streams s ON s.id = e.stream
                 WHERE e.position < ?1 ORDER BY e.position DESC LIMIT ?2"
        }
    })?;
    let mut rows = statement.query((read.from.to_sql(), revision_to_sql(LONGEST_SCAN as u64)))?;
    while let Some(row) = rows.next()? {
        let position = Position::from_sql(row.get(0)?);
        let passes = match read.passes(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?) {
            Ok(passes) => passes,
            Err(invalid) => return Ok(Err(invalid)),
        };
        if pager.add(position, passes)? {
            return Ok(Ok(pager.page));
        }
    }
    pager.page.is_end = pager.page.scanned.len() < LONGEST_SCAN;
    Ok(Ok(pager.page))
}
