//! Pages of one stream, for reads with a count and for subscriptions.

use rusqlite::{Connection, OptionalExtension, Params, Result};

use super::links::Resolver;
use super::visible::{StreamLookup, Visible, find};
use super::{records, rows};
use crate::clock;
use crate::event::{Direction, ResolvedEvent, TOMBSTONE_REVISION, revision_to_sql};
use crate::stream_name::StreamName;

/// After this many bytes a page ends early.
pub(super) const PAGE_BYTES: usize = 1024 * 1024;

const BETWEEN: &str = "e.stream = ?1 AND e.revision BETWEEN ?2 AND ?3 AND e.created >= ?4";

/// A page of a read with a count.
#[derive(Clone, Debug)]
pub(crate) struct StreamRead {
    pub(crate) stream: StreamName,
    pub(crate) direction: Direction,
    /// The revision to begin with; backwards, whatever is beyond the end is the end.
    pub(crate) from: u64,
    /// How many revisions the page spans at most; at least 1.
    pub(crate) limit: u64,
    pub(crate) resolve_links: bool,
}

#[derive(Clone, Debug)]
pub(crate) enum StreamPage {
    /// It never was, or it is soft-deleted.
    Missing,
    Tombstoned,
    Events {
        events: Vec<ResolvedEvent>,
        /// Where to read on; `None` if there is no more.
        next: Option<u64>,
        /// Where a reader forwards would read on, also at the end.
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

/// Like the real server, a page that ends before the first visible event is empty and leads there.
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
        // A scavenge has removed these revisions, and then the metadata has changed.
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

/// A revision beside a hole that is a page long: readers need not go through it page by page.
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

/// Takes rows until the page is full; then also says after which revision it was cut.
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

/// What a subscription asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct StreamFollow {
    pub(crate) stream: StreamName,
    /// The first revision that it has not had.
    pub(crate) from: u64,
    pub(crate) resolve_links: bool,
    /// Whether events that metadata hides are left out: only until it has caught up.
    pub(crate) only_visible: bool,
    /// How many events it takes at once, at least 1; never more than [`StreamFollow::MOST`].
    pub(crate) limit: usize,
}

impl StreamFollow {
    /// The most events that are read at once.
    pub(crate) const MOST: usize = 256;
}

#[derive(Clone, Debug)]
pub(crate) struct FollowPage {
    pub(crate) events: Vec<ResolvedEvent>,
    /// The last of the events stands for the stream's tombstone.
    pub(crate) tombstoned: bool,
    /// The first revision that was not read.
    pub(crate) next: u64,
    /// Whether there is nothing more to read for now.
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

/// What a subscription gets of a stream.
struct VisibleRange {
    /// The first revision.
    first: u64,
    /// The earliest time of creation, in ticks.
    oldest: i64,
    /// The first revision after all that are hidden from it for good: once it has caught up it goes on there, so that
    /// what is hidden now does not come later.
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

/// The revision of the last event of a stream; `Err` if it is tombstoned.
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
