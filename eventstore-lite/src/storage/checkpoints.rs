//! Merging the write-ahead log into the database. A thread does most of it beside the commits; the writer, between
//! two commits, does what is left when the log is long, so that the log begins anew.
//!
//! Invariant: without readers of a past state the log has at most [`LONGEST`] pages and those of one group.

use std::cell::Cell;
use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rusqlite::Connection;

/// With so many pages, 48 MiB, the log begins anew. The fewer pages, the more often one is merged that changes
/// again soon; the file stays below the size to which it would be cut.
const LONGEST: i32 = 12 * 1024;
/// After so many more pages the thread merges them.
const STEP: i32 = 3 * 1024;

thread_local! {
    /// The pages in the write-ahead log after the last commit of this thread.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

pub(super) struct Checkpoints {
    wake: SyncSender<()>,
    /// Held by who merges: SQLite has a second one go away with nothing done.
    merging: Arc<Mutex<()>>,
    thread: JoinHandle<()>,
    /// The length of the log when the thread was last woken.
    merged: i32,
}

impl Checkpoints {
    /// Starts the thread with a connection of its own.
    pub(super) fn start(connection: Connection) -> io::Result<Self> {
        let (wake, woken) = mpsc::sync_channel(1);
        let merging = Arc::<Mutex<()>>::default();
        let alone = Arc::clone(&merging);
        let thread = std::thread::Builder::new().name("checkpoints".to_owned());
        let thread = thread.spawn(move || {
            while woken.recv().is_ok() {
                let _alone = alone.lock().unwrap_or_else(PoisonError::into_inner);
                merge(&connection);
            }
        })?;
        Ok(Self {
            wake,
            merging,
            thread,
            merged: 0,
        })
    }

    /// Has the length of the log noted with every commit of `writer` from now on, instead of merging it then.
    pub(super) fn watch(writer: &Connection) {
        writer.wal_hook(Some(|_, pages| {
            PAGES.set(pages);
            Ok(())
        }));
    }

    /// Merges what is due, after a commit of this thread.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pages = PAGES.get();
        if pages >= LONGEST {
            self.merge(writer);
        }
        if pages < self.merged {
            // It has begun anew.
            self.merged = 0;
        }
        // A thread that is still at work is woken later.
        if pages >= self.merged + STEP && self.wake.try_send(()).is_ok() {
            self.merged = pages;
        }
    }

    /// Merges what the thread has not, as far as readers allow.
    pub(super) fn merge(&self, writer: &Connection) {
        let _alone = self.merging.lock().unwrap_or_else(PoisonError::into_inner);
        merge(writer);
    }

    pub(super) fn stop(self) {
        drop(self.wake);
        if self.thread.join().is_err() {
            tracing::error!("the thread of checkpoints ended by a panic");
        }
    }
}

/// As far as readers allow, and unless another connection is at it.
fn merge(connection: &Connection) {
    let merged = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = merged {
        tracing::warn!(%error, "the write-ahead log was not merged into the database");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::schema;

    /// More pages than a group has below.
    const GROUP: i32 = 64;

    /// Commits groups of about 32 pages, and returns the most pages that the log had.
    fn longest_log(groups: usize, mut after: impl FnMut(&Connection), writer: &Connection) -> i32 {
        Checkpoints::watch(writer);
        writer
            .execute_batch("CREATE TABLE filler (data BLOB)")
            .unwrap();
        let mut longest = 0;
        for _ in 0..groups {
            let insert = "INSERT INTO filler VALUES (zeroblob(32 * 4096))";
            writer.execute_batch(insert).unwrap();
            longest = longest.max(PAGES.get());
            after(writer);
        }
        longest
    }

    #[test]
    fn the_log_begins_anew_however_much_is_written() {
        const GROUPS: usize = 1200;
        let folder = tempfile::tempdir().unwrap();
        let writer = schema::open_writer(folder.path(), false).unwrap();
        let merging = schema::open_to_merge(folder.path(), false).unwrap();
        let mut checkpoints = Checkpoints::start(merging).unwrap();
        let longest = longest_log(GROUPS, |writer| checkpoints.after_commit(writer), &writer);
        checkpoints.stop();
        assert!(longest < LONGEST + GROUP, "{longest} pages");
        // Without checkpoints it would hold all.
        let unbounded = tempfile::tempdir().unwrap();
        let writer = schema::open_writer(unbounded.path(), false).unwrap();
        assert!(longest_log(GROUPS, |_| (), &writer) > 3 * LONGEST);
    }
}
