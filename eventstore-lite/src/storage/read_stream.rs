//! Reads pages of one stream, for reads with a count and for subscriptions.

use rusqlite::{Connection, OptionalExtension, Params, Result};

use super::links::Resolver;
use super::visible::{StreamLookup, Visible, find};
use super::{records, rows};
use crate::clock;
use crate::event::{Direction, ResolvedEvent, TOMBSTONE_REVISION, revision_to_sql};
use crate::stream_name::StreamName;

/// A page ends early after this many bytes.
pub(super) const PAGE_BYTES: usize = 1024 * 1024;

const BETWEEN: &str = "e.stream = ?1 AND e.revision BETWEEN ?2 AND ?3 AND e.created >= ?4";

/// A page of a read with a count.
#[derive(Clone, Debug)]
pub(crate) struct StreamRead {
    pub(crate) stream: StreamName,
    pub(crate) direction: Direction,
    /// The revision to begin with. Reading backwards, a revision beyond the end means the end.
    pub(crate) from: u64,
    /// The maximum number of revisions that the page spans, at least 1.
    pub(crate) limit: u64,
    pub(crate) resolve_links: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum StreamPage {
    /// The stream never existed, or it is soft-deleted.
    Missing,
    Tombstoned,
    Events {
        events: Vec<ResolvedEvent>,
        /// The revision to continue with, or `None` at the end.
        next: Option<u64>,
        /// The revision at which a forward reader would continue, also at the end.
        forwards: u64,
        /// The revision of the stream's last event.
        last: u64,
    },
}

pub(super) fn read(connection: &Connection, read: &StreamRead) -> Result<StreamPage> {
    let now = clock::now();
    let stream = match find(connection, &read.stream, now)? {
        StreamLookup::Stream(stream) if !stream.soft_deleted => stream,
        StreamLookup::Stream(_) | StreamLookup::Missing => return Ok(StreamPage::Missing),
        StreamLookup::Tombstoned => return Ok(StreamPage::Tombstoned),
    };
    let resolver = Resolver {
        connection,
        resolve_links: read.resolve_links,
        now,
    };
    match read.direction {
        Direction::Forwards => forwards(resolver, stream, read),
        Direction::Backwards => backwards(resolver, stream, read),
    }
}

/// As in the real server, a page that ends before the first visible event is empty and points to that event.
fn forwards(resolver: Resolver<'_>, stream: Visible, read: &StreamRead) -> Result<StreamPage> {
    let end = read.from.saturating_add(read.limit - 1);
    let page = |events, next: u64, is_end: bool| StreamPage::Events {
        events,
        next: (!is_end).then_some(next),
        forwards: next,
        last: stream.last,
    };
    if read.from > stream.last {
        return Ok(page(vec![], stream.last + 1, true));
    }
    if end < stream.first {
        return Ok(page(vec![], stream.first, false));
    }
    let bounds = (
        stream.id,
        revision_to_sql(read.from.max(stream.first)),
        revision_to_sql(end.min(stream.last)),
        stream.oldest,
    );
    let sql = records::query(&read.stream, BETWEEN, "");
    let (events, cut_after) = collect(resolver, &sql, bounds)?;
    let mut next = cut_after.unwrap_or(end.min(stream.last)) + 1;
    if events.is_empty() && next <= stream.last {
        // A scavenge removed these revisions, and the metadata changed after that.
        let table = records::table(&read.stream);
        let sql = format!(
            "SELECT revision FROM {table} WHERE stream = ?1 AND revision >= ?2 AND created >= ?3
             ORDER BY revision LIMIT 1"
        );
        let found = revision(resolver.connection, &sql, stream, next)?;
        next = found.unwrap_or(stream.last + 1);
    }
    Ok(page(events, next, next > stream.last))
}

fn backwards(resolver: Resolver<'_>, stream: Visible, read: &StreamRead) -> Result<StreamPage> {
    let from = read.from.min(stream.last);
    let end = from.saturating_sub(read.limit - 1).max(stream.first);
    let bounds = (
        stream.id,
        revision_to_sql(end),
        revision_to_sql(from),
        stream.oldest,
    );
    let sql = records::query(&read.stream, BETWEEN, "DESC");
    let (events, cut_after) = collect(resolver, &sql, bounds)?;
    let least = cut_after.unwrap_or(end.min(from));
    let mut next = least.checked_sub(1).filter(|_| least > stream.first);
    if let (true, Some(below)) = (events.is_empty(), next) {
        let table = records::table(&read.stream);
        let sql = format!(
            "SELECT revision FROM {table} WHERE stream = ?1 AND revision <= ?2 AND created >= ?3
             ORDER BY revision DESC LIMIT 1"
        );
        let found = revision(resolver.connection, &sql, stream, below)?;
        next = found.filter(|found| *found >= stream.first);
    }
    Ok(StreamPage::Events {
        events,
        next,
        forwards: 0,
        last: stream.last,
    })
}

/// Finds the revision on the other side of a hole that is at least a page long, so that readers skip the hole in one
/// step.
fn revision(
    connection: &Connection,
    sql: &str,
    stream: Visible,
    beside: u64,
) -> Result<Option<u64>> {
    let mut statement = connection.prepare_cached(sql)?;
    let bounds = (stream.id, revision_to_sql(beside), stream.oldest);
    let found = statement.query_row(bounds, |row| row.get::<_, i64>(0));
    Ok(found.optional()?.map(i64::unsigned_abs))
}

/// Reads rows until the page is full. If it is full, also returns the revision after which it was cut.
fn collect(
    resolver: Resolver<'_>,
    sql: &str,
    bounds: impl Params,
) -> Result<(Vec<ResolvedEvent>, Option<u64>)> {
    let mut statement = resolver.connection.prepare_cached(sql)?;
    let mut rows = statement.query(bounds)?;
    let (mut events, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let record = rows::event(row)?;
        let revision = record.revision;
        bytes += record.data.len() + record.metadata.len();
        events.push(resolver.resolve(record)?);
        if bytes > PAGE_BYTES {
            return Ok((events, Some(revision)));
        }
    }
    Ok((events, None))
}

/// The next page of a subscription.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamFollow {
    pub(crate) stream: StreamName,
    /// The first revision that the subscription has not received.
    pub(crate) from: u64,
    pub(crate) resolve_links: bool,
    /// Whether events that metadata hides are left out. This applies only until the subscription has caught up.
    pub(crate) only_visible: bool,
    /// The maximum number of events, at least 1. [`StreamFollow::MOST`] is an upper bound.
    pub(crate) limit: usize,
}

impl StreamFollow {
    /// The maximum number of events in one page.
    pub(crate) const MOST: usize = 256;
}

#[derive(Clone, Debug)]
pub(crate) struct FollowPage {
    pub(crate) events: Vec<ResolvedEvent>,
    /// Whether the last event of the page is the tombstone.
    pub(crate) tombstoned: bool,
    /// The first revision that was not read.
    pub(crate) next: u64,
    /// Whether the end was reached.
    pub(crate) is_end: bool,
}

pub(super) fn follow(connection: &Connection, follow: &StreamFollow) -> Result<FollowPage> {
    let now = clock::now();
    let nothing = FollowPage {
        events: vec![],
        tombstoned: false,
        next: follow.from,
        is_end: true,
    };
    let Some(stream) = rows::find_stream(connection, &follow.stream)? else {
        return Ok(nothing);
    };
    let bounds = bounds(connection, follow, now)?;
    let resolver = Resolver {
        connection,
        resolve_links: follow.resolve_links,
        now,
    };
    let limit = follow.limit.min(StreamFollow::MOST);
    let condition = "e.stream = ?1 AND e.revision >= ?2 AND e.created >= ?4";
    let sql = records::query(&follow.stream, condition, "LIMIT ?3");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query((
        stream.id,
        revision_to_sql(bounds.first),
        revision_to_sql(limit as u64),
        bounds.oldest,
    ))?;
    let mut followed = nothing;
    let mut bytes = 0;
    while let Some(row) = rows.next()? {
        let record = rows::event(row)?;
        followed.next = record.revision + 1;
        followed.tombstoned = record.revision == TOMBSTONE_REVISION;
        bytes += record.data.len() + record.metadata.len();
        followed.events.push(resolver.resolve(record)?);
        if bytes > PAGE_BYTES {
            break;
        }
    }
    followed.is_end = followed.events.len() < limit && bytes <= PAGE_BYTES;
    if followed.is_end {
        followed.next = followed.next.max(bounds.end);
    }
    Ok(followed)
}

/// The events of a stream that a subscription receives.
struct VisibleRange {
    /// The first revision.
    first: u64,
    /// The earliest creation time, in ticks.
    oldest: i64,
    /// The first revision after those that are hidden from the subscription. Once it has caught up it continues
    /// there, so that it does not receive hidden events later.
    end: u64,
}

fn bounds(connection: &Connection, follow: &StreamFollow, now: i64) -> Result<VisibleRange> {
    let all = VisibleRange {
        first: follow.from,
        oldest: i64::MIN,
        end: follow.from,
    };
    if !follow.only_visible {
        return Ok(all);
    }
    Ok(match find(connection, &follow.stream, now)? {
        StreamLookup::Stream(stream) => VisibleRange {
            first: stream.first.max(follow.from),
            oldest: stream.oldest,
            end: stream.last + 1,
        },
        StreamLookup::Tombstoned => VisibleRange {
            first: TOMBSTONE_REVISION,
            ..all
        },
        StreamLookup::Missing => all,
    })
}

/// The revision of the last event of a stream, or an error if the stream is tombstoned.
pub(super) fn last_revision(
    connection: &Connection,
    name: &StreamName,
) -> Result<std::result::Result<Option<u64>, Tombstoned>> {
    Ok(match find(connection, name, clock::now())? {
        StreamLookup::Stream(stream) => Ok(Some(stream.last)),
        StreamLookup::Missing => Ok(None),
        StreamLookup::Tombstoned => Err(Tombstoned),
    })
}

/// The stream is deleted for good.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstoned;
