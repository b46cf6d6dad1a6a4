//! Reads the log from indexes, for a filter whose matches begin with known prefixes. Rows of events that do not match
//! are not touched. The result has the same events and positions as a scan.
//!
//! The index of stream names finds the streams. For many streams, and for event types, the links of system streams
//! are used if they are complete: `$ce-…` has all events of a category, `$et-…` all of a type.

mod merge;

use std::collections::BTreeSet;

use rusqlite::{Connection, OptionalExtension, Result};

use super::{AllPage, AllRead, LONGEST_SCAN, Pager};
use crate::event::{Direction, Position};
use crate::filter::{Filter, InvalidFilter, Subject};
use crate::system_streams;
use merge::Merge;

/// The maximum number of sources that are merged. Each costs a few rows per page.
const MOST_SOURCES: usize = 256;
/// If more than one place in this many may match, a scan is as good.
const SPARSE: u64 = 4;

/// A sequence of ascending positions: the events of a stream, or the links of a system stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct PositionSource {
    links: bool,
    stream: i64,
    /// The revision of the last event, not counting a tombstone; -1 if there is none.
    last: i64,
}

/// The sources to read from, if that takes fewer rows than a scan.
pub(super) fn cheap_sources(
    connection: &Connection,
    read: &AllRead,
) -> Result<Option<Vec<PositionSource>>> {
    let Some(filter) = &read.filter else {
        return Ok(None);
    };
    let places = match read.direction {
        Direction::Forwards => end(connection)?.places_after(read.from),
        Direction::Backwards => end(connection)?
            .next()
            .min(read.from)
            .places_after(Position::START),
    };
    if places <= LONGEST_SCAN as u64 {
        return Ok(None);
    }
    let sources = sources(connection, filter, MOST_SOURCES)?;
    Ok(sources.filter(|sources| {
        let matching: u64 = sources.iter().map(|s| s.last.unsigned_abs()).sum();
        matching.saturating_mul(SPARSE) < places
    }))
}

/// The position of the last event.
fn end(connection: &Connection) -> Result<Position> {
    let mut statement = connection.prepare_cached("SELECT max(position) FROM events")?;
    let end = statement.query_row([], |row| row.get::<_, Option<i64>>(0))?;
    Ok(end.map_or(Position::START, Position::from_sql))
}

/// At most `most` sources that together have everything that matches. `None` if there is no such set.
pub(super) fn sources(
    connection: &Connection,
    filter: &Filter,
    most: usize,
) -> Result<Option<Vec<PositionSource>>> {
    let (subject, prefixes) = filter.prefixes();
    let mut sources = BTreeSet::new();
    for prefix in prefixes {
        let room = most.saturating_sub(sources.len());
        let found = match subject {
            _ if prefix.is_empty() => None,
            Subject::StreamName => match streams(connection, prefix, room)? {
                Some(streams) => Some(streams),
                None => category(connection, prefix)?,
            },
            Subject::EventType => types(connection, prefix, room)?,
        };
        match found {
            Some(found) => sources.extend(found),
            None => return Ok(None),
        }
    }
    Ok((sources.len() <= most).then(|| sources.into_iter().collect()))
}

/// The ids and last revisions of the streams whose names begin with `prefix`. `None` if there are more than `most`.
fn named(connection: &Connection, prefix: &str, most: usize) -> Result<Option<Vec<(i64, i64)>>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, coalesce(last, -1), name FROM streams WHERE name >= ?1 ORDER BY name",
    )?;
    let mut rows = statement.query([prefix])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()?
        && row.get_ref(2)?.as_str()?.starts_with(prefix)
    {
        if found.len() == most {
            return Ok(None);
        }
        found.push((row.get(0)?, row.get(1)?));
    }
    Ok(Some(found))
}

fn streams(
    connection: &Connection,
    prefix: &str,
    most: usize,
) -> Result<Option<Vec<PositionSource>>> {
    let streams = named(connection, prefix, most)?;
    Ok(streams.map(|streams| as_sources(streams, false)))
}

/// The links of the category to which all names with this prefix belong.
fn category(connection: &Connection, prefix: &str) -> Result<Option<Vec<PositionSource>>> {
    let Some(index) = system_streams::of_category(prefix) else {
        return Ok(None);
    };
    if !links_are_complete(connection)? {
        return Ok(None);
    }
    let mut statement =
        connection.prepare_cached("SELECT id, coalesce(last, -1) FROM streams WHERE name = ?1")?;
    let index = statement.query_row([index.as_str()], |row| Ok((row.get(0)?, row.get(1)?)));
    let index = index.optional()?;
    Ok(Some(as_sources(index.into_iter().collect(), true)))
}

/// The links of all types that begin with `prefix`.
fn types(
    connection: &Connection,
    prefix: &str,
    most: usize,
) -> Result<Option<Vec<PositionSource>>> {
    let Some(indexes) = system_streams::of_types(prefix) else {
        return Ok(None);
    };
    if !links_are_complete(connection)? {
        return Ok(None);
    }
    let indexes = named(connection, indexes.as_str(), most)?;
    Ok(indexes.map(|indexes| as_sources(indexes, true)))
}

fn links_are_complete(connection: &Connection) -> Result<bool> {
    let mut statement = connection.prepare_cached("SELECT linked = head FROM log")?;
    statement.query_row([], |row| row.get(0))
}

fn as_sources(streams: Vec<(i64, i64)>, links: bool) -> Vec<PositionSource> {
    let source = |(stream, last)| PositionSource {
        links,
        stream,
        last,
    };
    streams.into_iter().map(source).collect()
}

/// Reads from the sources what passes the filter, until the page is full. At the end of the log, the page says how
/// far it looked.
pub(super) fn read(
    mut pager: Pager<'_>,
    sources: &[PositionSource],
) -> Result<std::result::Result<AllPage, InvalidFilter>> {
    let mut merge = Merge::begin(pager.resolver.connection, pager.read, sources)?;
    let mut last = None;
    let mut looked_at = 0;
    while let Some(position) = merge.next()? {
        // Both of two sources had this position.
        if last.replace(position) == Some(position) {
            continue;
        }
        let passes = match passes(&pager, position)? {
            Ok(passes) => passes,
            Err(invalid) => return Ok(Err(invalid)),
        };
        looked_at += 1;
        let is_cut = looked_at == LONGEST_SCAN;
        if !passes && !is_cut {
            continue;
        }
        if pager.add(position, passes)? || is_cut {
            return Ok(Ok(pager.page));
        }
    }
    pager.page.is_end = true;
    if pager.read.direction == Direction::Forwards {
        let end = end(pager.resolver.connection)?;
        if end >= pager.page.next(pager.read) {
            pager.add(end, false)?;
        }
    }
    Ok(Ok(pager.page))
}

/// Whether the event at this position exists and passes the filter. Links remain when their events are removed, and a
/// source has more than what matches.
fn passes(
    pager: &Pager<'_>,
    position: Position,
) -> Result<std::result::Result<bool, InvalidFilter>> {
    let mut statement = pager.resolver.connection.prepare_cached(
        "SELECT s.name, e.type FROM events e JOIN streams s ON s.id = e.stream WHERE e.position = ?1",
    )?;
    let passes = statement.query_row([position.to_sql()], |row| {
        let (stream, event_type) = (row.get_ref(0)?.as_str()?, row.get_ref(1)?.as_str()?);
        Ok(pager.read.passes(stream, event_type))
    });
    Ok(passes.optional()?.unwrap_or(Ok(false)))
}
