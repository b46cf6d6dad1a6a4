//! Shares reads of the database that many subscribers need at the same time: reads of system streams and of links.
//! One subscriber makes the read, and all get its result.
//!
//! Invariant: a result for one version of the log is never used for another version, and is soon dropped.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::OnceCell;

use super::StorageFailed;
use super::recent::Version;

/// The maximum number of reads that are shared at a time.
const MOST: usize = 16;

type Cell<V> = Arc<OnceCell<V>>;

#[derive(Debug)]
pub(super) struct SharedReads<K, V> {
    reads: Mutex<(Version, HashMap<K, Cell<V>>)>,
}

impl<K: Eq + Hash, V: Clone> SharedReads<K, V> {
    pub(super) fn new() -> Self {
        let reads = (Version::default(), HashMap::new());
        Self {
            reads: Mutex::new(reads),
        }
    }

    /// The result of `read`, or the result that another caller got for this version.
    pub(super) async fn read(
        &self,
        version: Version,
        key: K,
        read: impl Future<Output = Result<V, StorageFailed>>,
    ) -> Result<V, StorageFailed> {
        let Some(cell) = self.cell(version, key) else {
            return read.await;
        };
        cell.get_or_try_init(|| read).await.cloned()
    }

    fn cell(&self, version: Version, key: K) -> Option<Cell<V>> {
        let mut reads = self.reads.lock().unwrap_or_else(PoisonError::into_inner);
        let (of, cells) = &mut *reads;
        if *of != version {
            *of = version;
            cells.clear();
        }
        let is_room = cells.len() < MOST || cells.contains_key(&key);
        is_room.then(|| Arc::clone(cells.entry(key).or_default()))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    use super::*;
    use crate::event::Position;

    fn version(number: u64) -> Version {
        Version {
            head: Position(number),
            forgotten: 0,
        }
    }

    #[tokio::test]
    async fn a_read_is_shared_within_one_version_of_the_log() {
        let (shared, reads) = (SharedReads::new(), AtomicUsize::new(0));
        let read = |number, key| {
            shared.read(version(number), key, async {
                tokio::task::yield_now().await;
                Ok(reads.fetch_add(1, Relaxed))
            })
        };
        let together = futures::future::join_all((0..100).map(|_| read(1, "a"))).await;
        assert!(together.iter().all(|found| *found == Ok(0)));
        assert_eq!(read(1, "b").await, Ok(1));
        assert_eq!(read(2, "a").await, Ok(2));
        assert_eq!(read(1, "a").await, Ok(3));
    }

    #[tokio::test]
    async fn the_next_caller_makes_a_read_whose_caller_has_gone() {
        let shared = SharedReads::new();
        let gone = shared.read(version(1), "a", std::future::pending());
        let mut gone = Box::pin(gone);
        assert!(futures::poll!(&mut gone).is_pending());
        let mut next = Box::pin(shared.read(version(1), "a", async { Ok(1) }));
        assert!(futures::poll!(&mut next).is_pending());
        drop(gone);
        assert_eq!(next.await, Ok(1));
    }

    #[tokio::test]
    async fn a_bounded_number_of_reads_is_kept() {
        let shared = SharedReads::new();
        for key in 0..2 * MOST {
            assert_eq!(
                shared.read(version(1), key, async { Ok(key) }).await,
                Ok(key)
            );
        }
        assert_eq!(shared.reads.lock().unwrap().1.len(), MOST);
    }
}
