//! The acknowledged users that are in the store, counted in the same way for both systems.

use super::table::Fate;
use anyhow::Result;
use event_streams::{EventStreams, Position};
use std::collections::HashSet;

const STREAMS: &str = "users-";
/// The prefix of the creation event's type in both systems.
const CREATED: &str = "UserCreated";
const PAGE: usize = 10_000;

/// The ids of the users whose creation is stored. Each event is read once.
#[derive(Debug)]
pub(super) struct StoredUsers {
    store: EventStreams,
    after: Option<Position>,
    ids: HashSet<u64>,
}

impl StoredUsers {
    pub(super) fn new(store: EventStreams) -> Self {
        Self {
            store,
            after: None,
            ids: HashSet::new(),
        }
    }

    /// Counts the stored and the lost users among these acknowledged users.
    pub(super) async fn fate(&mut self, acknowledged: &[u64]) -> Result<Fate> {
        self.read_on().await?;
        let stored = acknowledged.iter().filter(|id| self.ids.contains(id));
        let stored = stored.count();
        Ok(Fate {
            acknowledged: acknowledged.len(),
            stored,
            lost: acknowledged.len() - stored,
            listed: None,
        })
    }

    /// Reads the rest of the log.
    async fn read_on(&mut self) -> Result<()> {
        loop {
            let page = self.store.read_all(&[STREAMS], self.after, PAGE).await?;
            for event in &page.events {
                if event.event_type.starts_with(CREATED)
                    && let Some(id) = event.stream.strip_prefix(STREAMS)
                {
                    self.ids.insert(id.parse()?);
                }
            }
            self.after = page.position;
            if page.end {
                return Ok(());
            }
        }
    }
}
