//! The thread that writes. It takes the waiting changes from a bounded queue, writes them in one transaction, and
//! answers when that is on disk. The more callers wait, the more of them share one flush. The thread answers before
//! it wakes readers, so that the time to an acknowledgement does not grow with the number of subscribers.

use std::collections::HashSet;
use std::fs::File;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::Result;
use rusqlite::{Connection, ErrorCode};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use super::ledger::Ledger;
use super::linking::Backlog;
use super::readers::ReadSlots;
use super::recent::RecentEvents;
use super::wal_checkpoints::WalCheckpoints;
use super::{Outcome, StorageFailed, Write};
use crate::config::Limits;
use crate::event::Position;
use crate::heads::Heads;
use crate::metrics::Metrics;
use crate::stream_name::StreamName;

/// The maximum number of waiting changes.
const LONGEST_QUEUE: usize = 4096;
/// The maximum number of changes in one transaction.
const LARGEST_GROUP: usize = 1024;
/// The minimum weight of a change in the queue, in bytes.
const LEAST_WEIGHT: usize = 256;

type Answer = std::result::Result<Outcome, StorageFailed>;

struct Queued {
    write: Write,
    answer: oneshot::Sender<Answer>,
    _weight: OwnedSemaphorePermit,
}

/// Other work on the writer's thread.
type Job = Box<dyn FnOnce(&mut Worker) + Send>;

enum WriterTask {
    Write(Queued),
    Job(Job),
    /// The write-ahead log can be merged now.
    Merge,
    Stop,
}

/// The pending outcome of a queued change.
pub(crate) struct Receipt(oneshot::Receiver<Answer>);

impl Receipt {
    pub(crate) async fn outcome(self) -> Answer {
        self.0.await.unwrap_or(Err(StorageFailed))
    }
}

pub(super) struct Writer {
    queue: mpsc::Sender<WriterTask>,
    /// A permit for each byte that may wait or be written.
    weights: Arc<Semaphore>,
    queued_bytes: usize,
    /// A permit for each byte of unfinished appends.
    unfinished: Arc<Semaphore>,
    metrics: Arc<Metrics>,
    heads: Arc<Heads>,
    recent: Arc<RecentEvents>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Writer {
    /// Starts the thread. The thread holds `lock` as long as it can write.
    pub(super) fn start(
        ledger: Ledger,
        (merging, slots): (Connection, ReadSlots),
        lock: File,
        limits: &Limits,
    ) -> Result<Self> {
        let queued_bytes = limits.queued_bytes;
        let heads = Arc::new(Heads::new(ledger.committed()));
        let recent = Arc::new(RecentEvents::new(ledger.committed(), limits.recent_bytes));
        let metrics = Arc::new(Metrics::default());
        let (queue, queued) = mpsc::channel(LONGEST_QUEUE);
        WalCheckpoints::watch(ledger.connection());
        let waiting = queue.downgrade();
        let checkpoints = WalCheckpoints::start(merging, slots, move || {
            // If the queue is full, its work leads to the next look at the log.
            drop(
                waiting
                    .upgrade()
                    .map(|queue| queue.try_send(WriterTask::Merge)),
            );
        })?;
        let worker = Worker {
            ledger,
            heads: Arc::clone(&heads),
            recent: Arc::clone(&recent),
            checkpoints,
            metrics: Arc::clone(&metrics),
            _lock: lock,
        };
        let thread = std::thread::Builder::new().name("writer".to_owned());
        Ok(Self {
            queue,
            weights: Arc::new(Semaphore::new(queued_bytes)),
            queued_bytes,
            unfinished: Arc::new(Semaphore::new(queued_bytes)),
            metrics,
            heads,
            recent,
            thread: Mutex::new(Some(thread.spawn(move || worker.run(&mut Queue(queued)))?)),
        })
    }

    pub(super) fn heads(&self) -> &Heads {
        &self.heads
    }

    pub(super) fn recent(&self) -> &Arc<RecentEvents> {
        &self.recent
    }

    pub(super) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// The number of waiting changes, and the bytes that wait or are being written.
    pub(super) fn queued(&self) -> (usize, usize) {
        (
            self.queue.max_capacity() - self.queue.capacity(),
            self.queued_bytes - self.weights.available_permits(),
        )
    }

    pub(super) fn is_alive(&self) -> bool {
        !self.queue.is_closed()
    }

    pub(super) async fn submit(&self, write: Write) -> std::result::Result<Receipt, StorageFailed> {
        let weight = write.change.size().clamp(LEAST_WEIGHT, self.queued_bytes);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.weights).acquire_many_owned(weight).await;
        let (answer, receipt) = oneshot::channel();
        let queued = Queued {
            write,
            answer,
            _weight: permit.map_err(|_| StorageFailed)?,
        };
        self.queue
            .send(WriterTask::Write(queued))
            .await
            .map_err(|_| StorageFailed)?;
        Ok(Receipt(receipt))
    }

    /// Reserves memory for `bytes` of an append whose last piece has not arrived, if there is room.
    pub(super) fn room_for_unfinished(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        let room = Arc::clone(&self.unfinished).try_acquire_many_owned(bytes);
        room.ok()
    }

    /// Runs `job` on the thread, after the queued changes. Later changes wait for it. Afterwards the recent events in
    /// memory are forgotten.
    pub(super) async fn between_groups<T, F>(&self, job: F) -> std::result::Result<T, StorageFailed>
    where
        T: Send + 'static,
        F: FnOnce(&mut Ledger) -> rusqlite::Result<T> + Send + 'static,
    {
        self.run(|worker| {
            let done = job(&mut worker.ledger);
            worker.recent.forget();
            done
        })
        .await
    }

    /// Adds some of the missing links between two groups of changes. Returns what is still missing.
    pub(super) async fn link_earlier_events(
        &self,
    ) -> std::result::Result<Option<Backlog>, StorageFailed> {
        self.run(Worker::link_earlier_events).await
    }

    async fn run<T, F>(&self, job: F) -> std::result::Result<T, StorageFailed>
    where
        T: Send + 'static,
        F: FnOnce(&mut Worker) -> rusqlite::Result<T> + Send + 'static,
    {
        let (answer, done) = oneshot::channel();
        // A caller that has gone does not need the answer.
        let job: Job = Box::new(move |worker| drop(answer.send(job(worker))));
        let queued = self.queue.send(WriterTask::Job(job)).await;
        queued.map_err(|_| StorageFailed)?;
        let done = done.await.map_err(|_| StorageFailed)?;
        done.map_err(|error| {
            tracing::error!(%error, "work between groups of changes failed");
            StorageFailed
        })
    }

    /// Ends the thread after it has worked off its queue, and waits for that.
    pub(super) async fn stop(&self) {
        // If the thread has ended, there is nothing to stop.
        drop(self.queue.send(WriterTask::Stop).await);
        let thread = self
            .thread
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        let joined = tokio::task::spawn_blocking(|| thread.map(JoinHandle::join)).await;
        if !matches!(joined, Ok(None | Some(Ok(())))) {
            tracing::error!("the writer thread panicked");
        }
    }
}

/// The queue of the thread. Work that arrives just as the thread ends would stay here unanswered while its sender
/// waits. So dropping the queue takes everything out and drops it, which ends the waiting.
struct Queue(mpsc::Receiver<WriterTask>);

impl Drop for Queue {
    fn drop(&mut self) {
        self.0.close();
        while self.0.blocking_recv().is_some() {}
    }
}

struct Worker {
    ledger: Ledger,
    heads: Arc<Heads>,
    recent: Arc<RecentEvents>,
    checkpoints: WalCheckpoints,
    metrics: Arc<Metrics>,
    _lock: File,
}

impl Worker {
    fn run(mut self, queue: &mut Queue) {
        let mut stopped = false;
        while !stopped && let Some(first) = queue.0.blocking_recv() {
            let (mut group, mut job) = (Vec::new(), None);
            let mut next = Some(first);
            while let Some(message) = next {
                match message {
                    WriterTask::Write(queued) => group.push(queued),
                    WriterTask::Job(next) => job = Some(next),
                    WriterTask::Merge => {}
                    WriterTask::Stop => stopped = true,
                }
                let more = !stopped && job.is_none() && group.len() < LARGEST_GROUP;
                next = if more { queue.0.try_recv().ok() } else { None };
            }
            if !group.is_empty() {
                self.settle(group);
            }
            if let Some(job) = job {
                job(&mut self);
            }
            self.checkpoints.after_commit(self.ledger.connection());
        }
        self.checkpoints.stop();
        if let Err(error) = self.ledger.close() {
            tracing::warn!(%error, "the write-ahead log was not merged into the database");
        }
    }

    /// Writes a group and answers each change. A caller that has gone does not need the answer.
    fn settle(&mut self, group: Vec<Queued>) {
        match self.write(&group) {
            Ok((outcomes, changed)) => {
                for (queued, outcome) in group.into_iter().zip(outcomes) {
                    drop(queued.answer.send(Ok(outcome)));
                }
                self.heads.moved(self.ledger.committed(), changed.iter());
            }
            Err(error) => {
                self.undo(&error);
                let answer = if is_disk_full(&error) {
                    // Restarting the write-ahead log may free enough space.
                    self.checkpoints.restart_log_soon();
                    Ok(Outcome::DiskFull)
                } else {
                    Err(StorageFailed)
                };
                for queued in group {
                    drop(queued.answer.send(answer.clone()));
                }
            }
        }
    }

    /// Writes a group durably. Returns the outcomes and the changed streams.
    fn write(&mut self, group: &[Queued]) -> rusqlite::Result<(Vec<Outcome>, HashSet<StreamName>)> {
        let before = self.ledger.committed();
        self.ledger.begin()?;
        let now = Instant::now();
        let mut outcomes = Vec::with_capacity(group.len());
        for Queued { write, .. } in group {
            let expired = write.deadline.is_some_and(|deadline| deadline <= now);
            outcomes.push(if expired {
                Outcome::DeadlineExceeded
            } else {
                self.ledger.apply(write)?
            });
        }
        let flushing = Instant::now();
        let (changed, written) = self.ledger.commit()?;
        self.metrics.flushed(group.len(), flushing.elapsed());
        self.count(group, &outcomes, before);
        self.recent.committed(written, self.ledger.committed());
        Ok((outcomes, changed))
    }

    fn link_earlier_events(&mut self) -> rusqlite::Result<Option<Backlog>> {
        let linked = self.ledger.linked()?;
        if Backlog::new(linked, self.ledger.committed()).is_none() {
            return Ok(None);
        }
        match self.ledger.catch_up(linked) {
            Ok(changed) => self.heads.moved(self.ledger.committed(), changed.iter()),
            Err(error) => {
                self.undo(&error);
                return Err(error);
            }
        }
        let linked = self.ledger.linked()?;
        Ok(Backlog::new(linked, self.ledger.committed()))
    }

    /// Counts the events that this group wrote. Events of earlier attempts have an earlier position.
    fn count(&self, group: &[Queued], outcomes: &[Outcome], before: Position) {
        for (queued, outcome) in group.iter().zip(outcomes) {
            if let Outcome::Written { position, .. } = outcome
                && *position > Some(before)
            {
                let change = &queued.write.change;
                self.metrics.wrote(change.ids().count(), change.size());
            }
        }
    }

    fn undo(&mut self, error: &rusqlite::Error) {
        tracing::error!(%error, "a transaction failed");
        if let Err(error) = self.ledger.rollback() {
            tracing::error!(%error, "a transaction could not be undone");
        }
    }
}

/// Whether a write failed because the disk is full: in a file, or in the index that readers of the write-ahead log
/// share.
fn is_disk_full(error: &rusqlite::Error) -> bool {
    error.sqlite_error().is_some_and(|error| {
        error.code == ErrorCode::DiskFull
            || error.extended_code == rusqlite::ffi::SQLITE_IOERR_SHMSIZE
    })
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
    use std::sync::mpsc as threads;
    use std::task::{Context, Wake, Waker};
    use std::time::Duration;

    use uuid::Uuid;

    use super::*;
    use crate::append_rules::Expected;
    use crate::config::Config;
    use crate::event::NewEvent;
    use crate::storage::{Change, Storage};

    fn append(stream: usize) -> Write {
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: "happened".to_owned(),
            is_json: false,
            data: "".into(),
            metadata: "".into(),
        };
        Write {
            stream: StreamName::stored(&format!("stream-{stream}")),
            expected: Expected::NoStream,
            change: Change::Append(vec![event]),
            deadline: None,
        }
    }

    /// Sends its name when it is woken.
    struct Named(&'static str, threads::Sender<&'static str>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.send(self.0).unwrap();
        }
    }

    #[tokio::test]
    async fn an_append_is_answered_before_its_readers_are_woken() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&Config::new(folder.path())).unwrap();
        let (woken, order) = threads::channel();
        let waker = |name| Waker::from(Arc::new(Named(name, woken.clone())));
        let mut heads = [
            storage.head(),
            storage.head_of(&StreamName::stored("stream-1")),
        ];
        let [log, stream] = heads.each_mut();
        let (mut log, mut stream) = (pin!(log.changed()), pin!(stream.changed()));
        for reader in [log.as_mut(), stream.as_mut()] {
            let polled = reader.poll(&mut Context::from_waker(&waker("a reader")));
            assert!(polled.is_pending());
        }
        // The writer is blocked until the receipt waits for its answer.
        let (release, held) = threads::channel::<()>();
        let held = move |_: &mut Ledger| Ok(held.recv().is_err());
        let mut busy = pin!(storage.writer.between_groups(held));
        assert!(futures::poll!(&mut busy).is_pending());
        let receipt = storage.submit(append(1)).await.unwrap();
        let mut outcome = pin!(receipt.outcome());
        let polled = outcome
            .as_mut()
            .poll(&mut Context::from_waker(&waker("the writer of the event")));
        assert!(polled.is_pending());
        drop(release);
        let next = || order.recv_timeout(Duration::from_mins(1)).unwrap();
        let all = [next(), next(), next()];
        assert_eq!(all, ["the writer of the event", "a reader", "a reader"]);
        busy.await.unwrap();
    }

    #[tokio::test]
    async fn appends_that_wait_together_share_one_flush() {
        const WAITING: usize = 100;
        let folder = tempfile::tempdir().unwrap();
        let storage = Storage::open(&Config::new(folder.path())).unwrap();
        let commits = Arc::new(AtomicUsize::new(0));
        let (release, held) = threads::channel::<()>();
        let counted = Arc::clone(&commits);
        let mut busy = pin!(storage.writer.between_groups(move |ledger| {
            let count = move || {
                counted.fetch_add(1, Relaxed);
                false
            };
            ledger.connection().commit_hook(Some(count))?;
            assert!(held.recv().is_err());
            Ok(())
        }));
        assert!(futures::poll!(&mut busy).is_pending());
        let mut receipts = Vec::new();
        for stream in 0..WAITING {
            receipts.push(storage.submit(append(stream)).await.unwrap());
        }
        drop(release);
        busy.await.unwrap();
        for receipt in receipts {
            let outcome = receipt.outcome().await.unwrap();
            assert!(matches!(outcome, Outcome::Written { .. }), "{outcome:?}");
        }
        assert_eq!(commits.load(Relaxed), 1);
        storage.write(append(WAITING)).await.unwrap();
        assert_eq!(commits.load(Relaxed), 2, "the control");
    }

    #[tokio::test]
    async fn work_that_arrives_while_the_thread_ends_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let storage = Arc::new(Storage::open(&Config::new(folder.path())).unwrap());
        let queue = storage.writer.queue.clone();
        let place = queue.reserve().await.unwrap();
        let stopping = Arc::clone(&storage);
        let stopped = tokio::spawn(async move { stopping.writer.stop().await });
        queue.closed().await;
        let (answer, done) = oneshot::channel::<()>();
        let job: Job = Box::new(move |_| answer.send(()).unwrap());
        place.send(WriterTask::Job(job));
        let answered = tokio::time::timeout(Duration::from_mins(1), done).await;
        answered
            .expect("the work is refused, not left waiting")
            .unwrap_err();
        stopped.await.unwrap();
    }
}
