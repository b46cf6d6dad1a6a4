//! Applies metadata to its stream, and writes the metadata that the server itself sets.

use bytes::Bytes;
use rusqlite::Result;
use uuid::Uuid;

use super::Ledger;
use crate::event::{METADATA, NewEvent};
use crate::retention::{self, Retention};
use crate::storage::rows;
use crate::stream_name::StreamName;

impl Ledger {
    pub(super) fn metadata_changed(
        &mut self,
        original: &StreamName,
        events: &[NewEvent],
    ) -> Result<()> {
        let stream = self.stream(original)?;
        if stream.tombstoned {
            return Ok(());
        }
        if let Some(event) = events.last() {
            self.set_retention(original, event)?;
        }
        if stream.retention(original).is_soft_deleted() {
            self.undelete(original, stream.last)?;
        }
        Ok(())
    }

    /// Undeletes a soft-deleted stream: only its events after `last` become visible.
    pub(super) fn undelete(&mut self, name: &StreamName, last: Option<u64>) -> Result<()> {
        let metastream = self.stream(&name.metastream())?;
        let Some(revision) = metastream.last else {
            return Ok(());
        };
        let event = rows::event_at_revision(&self.connection, metastream.id, revision)?;
        let first = last.map_or(0, |last| last + 1);
        let metadata = event.and_then(|event| retention::truncated_before(&event.data, first));
        metadata.map_or(Ok(()), |metadata| self.write_metadata(name, metadata))
    }

    pub(super) fn write_metadata(&mut self, name: &StreamName, metadata: Vec<u8>) -> Result<()> {
        let event = NewEvent {
            id: Uuid::new_v4(),
            event_type: METADATA.to_owned(),
            is_json: true,
            data: metadata.into(),
            metadata: Bytes::new(),
        };
        self.append_event(&name.metastream(), &event)?;
        self.set_retention(name, &event)
    }

    pub(super) fn set_retention(&mut self, name: &StreamName, event: &NewEvent) -> Result<()> {
        let mut stream = self.stream(name)?;
        stream.has_metadata = true;
        stream.metadata = Retention::of(event.is_json, &event.data);
        self.change(name, stream);
        Ok(())
    }
}
