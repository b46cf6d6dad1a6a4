//! An event in a group.

use std::sync::Arc;

use uuid::Uuid;

use super::progress::Sequence;
use crate::event::ResolvedEvent;

/// The origin of an event. Retries are ordered by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Origin {
    Read(Sequence),
    /// The stream of parked events, at this revision.
    Parked(u64),
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) event: Arc<ResolvedEvent>,
    pub(crate) origin: Origin,
    pub(crate) retry_count: i32,
}

impl Message {
    pub(super) fn new(event: ResolvedEvent, origin: Origin) -> Self {
        Self {
            event: Arc::new(event),
            origin,
            retry_count: 0,
        }
    }

    /// Removes the target of the link, which is no longer visible.
    pub(super) fn lose_target(&mut self) {
        self.event = Arc::new(ResolvedEvent {
            event: None,
            link: self.event.link.clone(),
            position: self.event.position,
        });
    }

    /// The id that clients use: that of the record that was read.
    pub(in crate::persistent) fn id(&self) -> Uuid {
        let record = self.event.link.as_ref().or(self.event.event.as_ref());
        record.map_or(Uuid::nil(), |record| record.id)
    }

    /// About how many bytes the event keeps in memory.
    pub(super) fn size(&self) -> usize {
        let stored_events = self.event.event.iter().chain(&self.event.link);
        let bytes = stored_events.map(|record| record.data.len() + record.metadata.len());
        std::mem::size_of::<Self>() + bytes.sum::<usize>()
    }
}
