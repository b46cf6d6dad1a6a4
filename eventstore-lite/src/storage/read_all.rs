//! Pages of the log of all events.

use std::sync::Arc;

use rusqlite::{Connection, Result};

use super::links::Resolver;
use super::read_stream::PAGE_BYTES;
use super::rows;
use crate::clock;
use crate::event::{Direction, Position, ResolvedEvent, revision_to_sql};
use crate::filter::{Filter, InvalidFilter};

/// The most events that a page looks at, and the most that it has.
const LONGEST_SCAN: usize = 2048;
const MOST_EVENTS: usize = 256;

#[derive(Clone, Debug)]
pub(crate) struct AllRead {
    pub(crate) direction: Direction,
    /// Forwards, the first position to look at; backwards, the first one not to look at.
    pub(crate) from: Position,
    /// How many events the page has at most; at least 1.
    pub(crate) limit: usize,
    pub(crate) filter: Option<Arc<Filter>>,
    pub(crate) resolve_links: bool,
}

/// One event that was looked at; it is there if the filter let it pass.
#[derive(Clone, Debug)]
pub(crate) struct Scanned {
    pub(crate) position: Position,
    pub(crate) event: Option<ResolvedEvent>,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct AllPage {
    pub(crate) scanned: Vec<Scanned>,
    /// Whether there is nothing more to look at for now.
    pub(crate) is_end: bool,
}

impl AllPage {
    /// Where the next page begins, in the direction of this one.
    pub(crate) fn next(&self, read: &AllRead) -> Position {
        let last = self.scanned.last().map(|scanned| scanned.position);
        match read.direction {
            Direction::Forwards => last.map_or(read.from, Position::next),
            Direction::Backwards => last.unwrap_or(read.from),
        }
    }
}

pub(super) fn read(
    connection: &Connection,
    read: &AllRead,
) -> Result<std::result::Result<AllPage, InvalidFilter>> {
    let resolver = Resolver {
        connection,
        resolve_links: read.resolve_links,
        now: clock::now(),
    };
    let mut statement = connection.prepare_cached(match read.direction {
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
    let mut page = AllPage::default();
    let (mut matched, mut bytes) = (0, 0);
    while let Some(row) = rows.next()? {
        let position = Position::from_sql(row.get(0)?);
        let passes = passes(read, row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
        let passes = match passes {
            Ok(passes) => passes,
            Err(invalid) => return Ok(Err(invalid)),
        };
        let record = if passes {
            rows::event_at_position(connection, position)?
        } else {
            None
        };
        bytes += record
            .as_ref()
            .map_or(0, |record| record.data.len() + record.metadata.len());
        matched += usize::from(record.is_some());
        let event = record.map(|record| resolver.resolve(record)).transpose()?;
        page.scanned.push(Scanned { position, event });
        if matched >= read.limit.min(MOST_EVENTS) || bytes > PAGE_BYTES {
            return Ok(Ok(page));
        }
    }
    page.is_end = page.scanned.len() < LONGEST_SCAN;
    Ok(Ok(page))
}

fn passes(
    read: &AllRead,
    stream: &str,
    event_type: &str,
) -> std::result::Result<bool, InvalidFilter> {
    let filter = read.filter.as_ref();
    filter.map_or(Ok(true), |filter| filter.matches(stream, event_type))
}
