//! Merges the positions of several sources. Each source is read row by row from its index.

use std::collections::BinaryHeap;

use rusqlite::{CachedStatement, Connection, OptionalExtension, Result, Statement};

use super::PositionSource;
use crate::event::{Direction, Position};
use crate::storage::read_all::AllRead;

/// The next record of a source.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Next {
    /// The position of the record, with its sign changed for reading forwards: the largest order comes next.
    order: i64,
    revision: i64,
    source: usize,
}

/// The merged positions, in the direction of a read.
pub(super) struct Merge<'a> {
    direction: Direction,
    from: i64,
    sources: &'a [PositionSource],
    /// The statements for events and for links.
    statements: [Step<'a>; 2],
    next: BinaryHeap<Next>,
}

impl<'a> Merge<'a> {
    pub(super) fn begin(
        connection: &'a Connection,
        read: &AllRead,
        sources: &'a [PositionSource],
    ) -> Result<Self> {
        let mut merge = Self {
            direction: read.direction,
            from: read.from.to_sql(),
            sources,
            statements: [
                Step::of(connection, "events")?,
                Step::of(connection, "links")?,
            ],
            next: BinaryHeap::with_capacity(sources.len()),
        };
        for (number, source) in sources.iter().enumerate() {
            let first = merge.first(*source)?;
            let bound = match merge.direction {
                Direction::Forwards => first,
                // Only a tombstone follows the last revision.
                Direction::Backwards if first > source.last => i64::MAX,
                Direction::Backwards => first - 1,
            };
            merge.advance(number, bound)?;
        }
        Ok(merge)
    }

    /// The first revision of a source at or after the position of the read, found by bisection. Revisions that a
    /// scavenge has removed are skipped.
    fn first(&mut self, source: PositionSource) -> Result<i64> {
        let (mut low, mut high) = (0, source.last + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let step = &mut self.statements[usize::from(source.links)];
            match step.forwards(source.stream, middle, i64::MIN)? {
                Some((revision, position)) if position < self.from => {
                    low = revision.saturating_add(1);
                }
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }

    /// Finds the next record of a source, starting with the revision `bound`.
    fn advance(&mut self, number: usize, bound: i64) -> Result<()> {
        let PositionSource { links, stream, .. } = self.sources[number];
        let step = &mut self.statements[usize::from(links)];
        let (found, sign) = match self.direction {
            Direction::Forwards => (step.forwards(stream, bound, self.from)?, -1),
            Direction::Backwards => (step.backwards(stream, bound, self.from)?, 1),
        };
        self.next.extend(found.map(|(revision, position)| Next {
            order: position * sign,
            revision,
            source: number,
        }));
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Option<Position>> {
        let Some(next) = self.next.pop() else {
            return Ok(None);
        };
        let bound = match self.direction {
            Direction::Forwards => next.revision.checked_add(1),
            Direction::Backwards => next.revision.checked_sub(1),
        };
        if let Some(bound) = bound {
            self.advance(next.source, bound)?;
        }
        Ok(Some(Position::from_sql(next.order)))
    }
}

/// Finds the first record from a revision on that is not before a position, or the last record up to a revision that
/// is before a position.
struct Step<'a> {
    forwards: CachedStatement<'a>,
    backwards: CachedStatement<'a>,
}

impl<'a> Step<'a> {
    /// The `+` keeps SQLite from using the index of positions.
    fn of(connection: &'a Connection, table: &str) -> Result<Self> {
        let select = format!("SELECT revision, position FROM {table} WHERE stream = ?1 AND");
        let forwards = "revision >= ?2 AND +position >= ?3 ORDER BY revision LIMIT 1";
        let backwards = "revision <= ?2 AND +position < ?3 ORDER BY revision DESC LIMIT 1";
        Ok(Self {
            forwards: connection.prepare_cached(&format!("{select} {forwards}"))?,
            backwards: connection.prepare_cached(&format!("{select} {backwards}"))?,
        })
    }

    fn forwards(
        &mut self,
        stream: i64,
        revision: i64,
        position: i64,
    ) -> Result<Option<(i64, i64)>> {
        neighbour(&mut self.forwards, (stream, revision, position))
    }

    fn backwards(
        &mut self,
        stream: i64,
        revision: i64,
        position: i64,
    ) -> Result<Option<(i64, i64)>> {
        neighbour(&mut self.backwards, (stream, revision, position))
    }
}

fn neighbour(statement: &mut Statement<'_>, bounds: (i64, i64, i64)) -> Result<Option<(i64, i64)>> {
    let found = statement.query_row(bounds, |row| Ok((row.get(0)?, row.get(1)?)));
    found.optional()
}
