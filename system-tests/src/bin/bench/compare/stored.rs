//! What the store has of the users that were acknowledged; the same for both systems.

use super::table::Fate;
use anyhow::Result;
use event_streams::{EventStreams, Position};
use std::collections::HashSet;

const STREAMS: &str = "users-";
/// Both systems' names of the event begin so.
const CREATED: &str = "UserCreated";
const PAGE: usize = 10_000;

/// The users with a stored creation, read once each.
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

    /// What became of these acknowledged users.
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
