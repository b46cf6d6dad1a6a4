//! Merges the write-ahead log into the database. A thread does most of the work beside the commits. When the log is
//! long, the writer merges the rest between two commits, so that SQLite restarts the log from its first page.
//!
//! SQLite cannot restart the log while a reader uses an earlier state of the database. If reads of this process are
//! in the way, the thread waits for them and admits no other reads until the writer has restarted the log.
//!
//! Invariant: unless another process reads an earlier state, the log has at most [`LONGEST`] pages plus those that
//! are committed until the running reads have ended.

use std::cell::Cell;
use std::io;
use std::sync::mpsc::{self, SyncSender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use futures::executor::block_on;
use rusqlite::Connection;

use super::readers::{ReadPause, ReadSlots};
use super::schema;

/// At this length, 48 MiB, the log is restarted. A shorter log would merge more pages that soon change again. The
/// file stays below the size to which SQLite would truncate it.
const LONGEST: i32 = 12 * 1024;
/// The thread merges the log whenever it has grown by this many pages.
const STEP: i32 = 3 * 1024;

thread_local! {
    /// The length of the write-ahead log after the last commit of this thread, in pages.
    static PAGES: Cell<i32> = const { Cell::new(0) };
}

/// Work for the thread.
enum Work {
    Merge,
    /// Merge while no read runs, and keep reads paused until the writer has restarted the log.
    MergeWhilePaused,
}

pub(super) struct WalCheckpoints {
    work: SyncSender<Work>,
    /// Held by the thread that merges, because SQLite allows one merge at a time.
    merging: Arc<Mutex<()>>,
    thread: JoinHandle<()>,
    /// The length of the log when the thread was last woken.
    merged: i32,
    /// The log is to be restarted at this length.
    due: i32,
    /// Whether the thread was asked to pause reads and has not done so yet.
    awaits_pause: bool,
    pause: Arc<Mutex<Option<ReadPause>>>,
}

impl WalCheckpoints {
    /// Starts the thread with its own connection. The thread calls `wake` when the writer should call
    /// [`WalCheckpoints::after_commit`] without a commit.
    pub(super) fn start(
        connection: Connection,
        slots: ReadSlots,
        wake: impl Fn() + Send + 'static,
    ) -> io::Result<Self> {
        let (work, todo) = mpsc::sync_channel(1);
        let merging = Arc::<Mutex<()>>::default();
        let pause = Arc::<Mutex<Option<ReadPause>>>::default();
        let (alone, made) = (Arc::clone(&merging), Arc::clone(&pause));
        let thread = std::thread::Builder::new().name("checkpoints".to_owned());
        let thread = thread.spawn(move || {
            for work in todo {
                let pause = match work {
                    Work::Merge => None,
                    Work::MergeWhilePaused => block_on(slots.pause()).ok(),
                };
                {
                    let _alone = lock(&alone);
                    merge(&connection);
                }
                if pause.is_some() {
                    *lock(&made) = pause;
                    wake();
                }
            }
        })?;
        Ok(Self {
            work,
            merging,
            thread,
            merged: 0,
            due: LONGEST,
            awaits_pause: false,
            pause,
        })
    }

    /// Records the length of the log after each commit of `writer`. This replaces SQLite's automatic merge.
    pub(super) fn watch(writer: &Connection) {
        writer.wal_hook(Some(|_, pages| {
            PAGES.set(pages);
            Ok(())
        }));
    }

    /// Merges what is due. The writer calls this after each commit.
    pub(super) fn after_commit(&mut self, writer: &Connection) {
        let pause = lock(&self.pause).take();
        if pause.is_some() {
            self.awaits_pause = false;
        }
        if PAGES.get() >= self.due && !self.awaits_pause {
            self.restart_log(writer, pause.is_some());
        }
        drop(pause);
        let pages = PAGES.get();
        if pages < self.merged {
            // SQLite restarted the log from its first page.
            self.merged = 0;
        }
        // If the thread is still busy, a later commit wakes it.
        if pages >= self.merged + STEP && self.work.try_send(Work::Merge).is_ok() {
            self.merged = pages;
        }
    }

    /// Merges everything, so that the next commit restarts the log. If reads are in the way, asks for a pause.
    fn restart_log(&mut self, writer: &Connection, is_paused: bool) {
        let restarted = {
            let _alone = lock(&self.merging);
            merge_all(writer)
        };
        if restarted {
            PAGES.set(0);
            self.due = LONGEST;
        } else if is_paused {
            tracing::warn!(
                "another process reads an earlier state of the database, so the write-ahead log keeps growing"
            );
            self.due = PAGES.get() + STEP;
        } else {
            // If the thread is still busy, the next commit asks again.
            self.awaits_pause = self.work.try_send(Work::MergeWhilePaused).is_ok();
        }
    }

    /// Restarts the log as soon as possible, to free space on the disk.
    pub(super) fn restart_log_soon(&mut self) {
        self.due = 0;
    }

    pub(super) fn stop(self) {
        drop(self.work);
        if self.thread.join().is_err() {
            tracing::error!("the checkpoint thread panicked");
        }
    }
}

/// Merges as much as readers allow.
fn merge(connection: &Connection) {
    let merged = connection.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], |_| Ok(()));
    if let Err(error) = merged {
        tracing::warn!(%error, "the write-ahead log was not merged into the database");
    }
}

/// Merges everything. Returns `false` at once if a reader uses an earlier state.
fn merge_all(writer: &Connection) -> bool {
    let merge = |()| {
        writer.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| {
            row.get::<_, i64>(0)
        })
    };
    let busy = writer.busy_timeout(Duration::ZERO).and_then(merge);
    let busy = writer.busy_timeout(schema::PATIENCE).and(busy);
    busy.map_or_else(
        |error| {
            tracing::warn!(%error, "the write-ahead log was not merged into the database");
            false
        },
        |busy| busy == 0,
    )
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::append_rules::Expected;
    use crate::config::Config;
    use crate::event::NewEvent;
    use crate::storage::readers::Readers;
    use crate::storage::{Change, Storage, Write};
    use crate::stream_name::StreamName;

    /// More pages than one group below writes.
    const GROUP: i32 = 64;

    /// Commits groups of about 32 pages each, and returns the greatest length of the log.
    fn longest_log(groups: usize, mut after: impl FnMut(&Connection), writer: &Connection) -> i32 {
        WalCheckpoints::watch(writer);
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
    fn the_log_restarts_however_much_is_written() {
        const GROUPS: usize = 1200;
        let folder = tempfile::tempdir().unwrap();
        let writer = schema::open_writer(folder.path(), false).unwrap();
        let merging = schema::open_to_merge(folder.path(), false).unwrap();
        let readers = Readers::open(folder.path(), 1, 1024 * 1024).unwrap();
        let slots = readers.slots().clone();
        let mut checkpoints = WalCheckpoints::start(merging, slots, || ()).unwrap();
        let longest = longest_log(GROUPS, |writer| checkpoints.after_commit(writer), &writer);
        checkpoints.stop();
        assert!(longest < LONGEST + GROUP, "{longest} pages");
        // Without checkpoints the log holds everything.
        let unbounded = tempfile::tempdir().unwrap();
        let writer = schema::open_writer(unbounded.path(), false).unwrap();
        assert!(longest_log(GROUPS, |_| (), &writer) > 3 * LONGEST);
    }

    async fn append_a_mebibyte(storage: &Storage) {
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: "happened".to_owned(),
            is_json: false,
            data: vec![0; 1024 * 1024].into(),
            metadata: "".into(),
        };
        let write = Write {
            stream: StreamName::stored("s"),
            expected: Expected::Any,
            change: Change::Append(vec![event]),
            deadline: None,
        };
        storage.write(write).await.unwrap();
    }

    #[tokio::test]
    async fn reads_go_on_when_the_log_is_merged_although_nothing_more_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config::new(folder.path());
        config.unsafe_disable_flush_to_disk = true;
        let storage = Storage::open(&config).unwrap();
        let (reading, is_read) = tokio::sync::oneshot::channel();
        let (end, ended) = mpsc::channel::<()>();
        let past = storage.readers.run(move |past| {
            past.query_row("SELECT head FROM log", [], |_| Ok(()))?;
            reading.send(()).unwrap();
            assert!(ended.recv().is_err());
            Ok(())
        });
        let course = async {
            is_read.await.unwrap();
            while !storage.readers.slots().are_taken() {
                append_a_mebibyte(&storage).await;
            }
            let mut next = Box::pin(storage.readers.run(|_| Ok(())));
            assert!(futures::poll!(&mut next).is_pending());
            drop(end);
            next.await.unwrap();
        };
        let both = async { tokio::join!(past, course) };
        let (past, ()) = tokio::time::timeout(Duration::from_mins(1), both)
            .await
            .unwrap();
        past.unwrap();
    }
}
