//! Resolves links: events of type `$>` whose data, `N@stream`, names another event.

use rusqlite::{Connection, Result};

use super::records;
use super::visible::{StreamLookup, find};
use crate::event::{RecordedEvent, ResolvedEvent};
use crate::stream_name::StreamName;

/// Converts records to the form that a reader gets.
#[derive(Clone, Copy, Debug)]
pub(super) struct Resolver<'a> {
    pub(super) connection: &'a Connection,
    pub(super) resolve_links: bool,
    /// The time for `$maxAge`, in ticks.
    pub(super) now: i64,
}

impl Resolver<'_> {
    /// The record. If it is a link and links are resolved, also its target if that is visible.
    pub(super) fn resolve(&self, record: RecordedEvent) -> Result<ResolvedEvent> {
        let position = record.position;
        let target = if self.resolve_links {
            record.target()
        } else {
            None
        };
        let Some((revision, stream)) = target else {
            return Ok(ResolvedEvent {
                event: Some(record),
                link: None,
                position,
            });
        };
        let event = self.visible(&stream, revision)?;
        Ok(ResolvedEvent {
            event,
            link: Some(record),
            position,
        })
    }

    fn visible(&self, name: &StreamName, revision: u64) -> Result<Option<RecordedEvent>> {
        match find(self.connection, name, self.now)? {
            StreamLookup::Stream(stream) if revision >= stream.first => {
                let record = records::at(self.connection, (name, stream.id), revision)?;
                Ok(record.filter(|record| record.created >= stream.oldest))
            }
            StreamLookup::Stream(_) | StreamLookup::Missing | StreamLookup::Tombstoned => Ok(None),
        }
    }
}
