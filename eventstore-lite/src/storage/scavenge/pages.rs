//! Overwrites leftovers in the pages of the database file. `secure_delete` overwrites deleted content, but not the
//! copies that SQLite leaves behind when it moves rows between pages. These copies remain in the gap between a page's
//! list of cells and its cells, until SQLite writes there.

use std::ops::Range;
use std::time::Duration;

use rusqlite::{Connection, Result};

use crate::storage::schema;

/// How many pages one read looks at, and the maximum that one transaction overwrites.
const LOOKED_AT: u32 = 1024;
pub(super) const OVERWRITTEN: usize = 64;

/// How long the writer's thread waits for reads to end before it continues with other writes.
const PATIENCE: Duration = Duration::from_millis(50);

/// Pages with leftovers in their gaps, and the page to continue with.
#[derive(Debug)]
pub(super) struct DirtyPages {
    pub(super) pages: Vec<u32>,
    pub(super) next: Option<u32>,
}

/// Looks at pages, starting with the number `from`. The first page is 1.
pub(super) fn find(connection: &Connection, from: u32) -> Result<DirtyPages> {
    let last: u32 = connection.pragma_query_value(None, "page_count", |row| row.get(0))?;
    let next = from.saturating_add(LOOKED_AT);
    let mut select = connection.prepare_cached(PAGE)?;
    let mut pages = Vec::new();
    for number in from..next.min(last.saturating_add(1)) {
        let is_dirty = select.query_row([number], |row| {
            let page = row.get_ref(0)?.as_blob()?;
            Ok(dirty_gap(page, number).is_some())
        })?;
        if is_dirty {
            pages.push(number);
        }
    }
    Ok(DirtyPages {
        pages,
        next: (next <= last).then_some(next),
    })
}

const PAGE: &str = "SELECT data FROM sqlite_dbpage WHERE pgno = ?1";

/// Overwrites the gaps of these pages as they are now.
pub(super) fn overwrite(connection: &Connection, pages: &[u32]) -> Result<u64> {
    let mut select = connection.prepare_cached(PAGE)?;
    let mut update =
        connection.prepare_cached("UPDATE sqlite_dbpage SET data = ?2 WHERE pgno = ?1")?;
    let mut overwritten = 0;
    for number in pages {
        let mut page: Vec<u8> = select.query_row([number], |row| row.get(0))?;
        if let Some(gap) = dirty_gap(&page, *number) {
            page[gap].fill(0);
            update.execute((number, page))?;
            overwritten += 1;
        }
    }
    Ok(overwritten)
}

/// Moves everything from the write-ahead log into the database and truncates the log. Returns `false` if a reader
/// uses an earlier state. Waits for other locks at most [`PATIENCE`].
pub(super) fn cut_journal(connection: &Connection) -> Result<bool> {
    connection.busy_timeout(PATIENCE)?;
    let cut = connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| {
        Ok(row.get::<_, i64>(0)? == 0)
    });
    connection.busy_timeout(schema::PATIENCE)?;
    cut
}

fn dirty_gap(page: &[u8], number: u32) -> Option<Range<usize>> {
    let gap = gap(page, number)?;
    let is_dirty = page[gap.clone()].iter().any(|byte| *byte != 0);
    is_dirty.then_some(gap)
}

/// The unused bytes of a B-tree page between its list of cells and its cells; `None` for other pages. See "B-tree
/// Pages" in SQLite's file format. Recognising other pages relies on [`schema::MOST_PAGES`].
fn gap(page: &[u8], number: u32) -> Option<Range<usize>> {
    /// The first page begins with the header of the file.
    const FILE_HEADER: usize = 100;
    let header = page.get(if number == 1 { FILE_HEADER } else { 0 }..)?;
    let begin = page.len() - header.len();
    let pointers = match header.first()? {
        // Interior pages of indexes and tables, then their leaves.
        2 | 5 => 12,
        10 | 13 => 8,
        _ => return None,
    };
    let number_at = |at| {
        Some(usize::from(u16::from_be_bytes(
            *header.get(at..)?.first_chunk()?,
        )))
    };
    let gap_start = begin + pointers + 2 * number_at(3)?;
    let cells_start = match number_at(5)? {
        0 => 65_536,
        start => start,
    };
    (gap_start <= cells_start && cells_start <= page.len()).then_some(gap_start..cells_start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(cells: u16, cells_start: u16) -> Vec<u8> {
        let mut page = vec![0; 512];
        page[0] = 13;
        page[3..5].copy_from_slice(&cells.to_be_bytes());
        page[5..7].copy_from_slice(&cells_start.to_be_bytes());
        page
    }

    #[test]
    fn the_gap_is_between_the_pointers_and_the_cells() {
        assert_eq!(gap(&leaf(3, 400), 2), Some(14..400));
        let mut inner = leaf(3, 400);
        inner[0] = 5;
        assert_eq!(gap(&inner, 2), Some(18..400));
        let mut first = vec![0; 100];
        first.extend(leaf(3, 400));
        assert_eq!(gap(&first, 1), Some(114..400));
    }

    #[test]
    fn pages_outside_of_trees_are_left_alone() {
        let overflow = |next: u32| [&next.to_be_bytes()[..], &[b'x'; 508]].concat();
        for next in [0, 1, 13, schema::MOST_PAGES] {
            assert_eq!(gap(&overflow(next), 2), None, "{next}");
        }
        assert_eq!(gap(&leaf(300, 400), 2), None, "pointers beyond the cells");
        assert_eq!(gap(&leaf(3, 600), 2), None, "cells beyond the page");
        assert_eq!(gap(&[], 2), None);
        assert_eq!(gap(&[13, 0, 0, 0], 2), None);
    }

    #[test]
    fn a_gap_is_dirty_if_a_byte_in_it_is_not_zero() {
        let mut page = leaf(3, 400);
        page[13] = 1;
        page[400] = 1;
        assert_eq!(dirty_gap(&page, 2), None);
        page[399] = 1;
        assert_eq!(dirty_gap(&page, 2), Some(14..400));
    }
}
