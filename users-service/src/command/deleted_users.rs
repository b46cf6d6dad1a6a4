//! The ids of all deleted users, which are never used again.
//!
//! The stream of a deleted user shows this by itself, unless the store was filled from an export. Then only the stream of
//! tombstones shows it.

use super::error::CommandError;
use crate::domain::UserId;
use crate::stored_event::{TOMBSTONES, tombstoned_user};
use event_streams::{Direction, EventStreams};
use std::collections::HashSet;
use std::sync::Arc;
use tokio::sync::Mutex;

/// How many tombstones one read returns.
const PAGE: usize = 1_000;

/// Reads the tombstones when somebody asks, and later only the new ones. An id takes about 16 bytes of memory.
#[derive(Debug, Clone)]
pub(super) struct DeletedUsers {
    store: EventStreams,
    known: Arc<Mutex<Tombstones>>,
}

#[derive(Debug, Default)]
struct Tombstones {
    ids: HashSet<UserId>,
    /// The revision of the next tombstone.
    next: u64,
}

impl DeletedUsers {
    pub(super) fn new(store: EventStreams) -> Self {
        let known = Arc::default();
        Self { store, known }
    }

    /// Whether a user with this id was deleted.
    pub(super) async fn contains(&self, user: UserId) -> Result<bool, CommandError> {
        let mut known = self.known.lock().await;
        loop {
            let next = Direction::ForwardFrom(known.next);
            let page = self.store.read(TOMBSTONES, next, PAGE).await?;
            for event in &page {
                known.ids.extend(tombstoned_user(event));
                known.next = event.revision + 1;
            }
            if page.len() < PAGE {
                return Ok(known.ids.contains(&user));
            }
        }
    }
}
