//! Verifies messages, by their seal or by the log.

use super::{READS, Refused, Repair, erasure_by_tombstone};
use crate::integration::message::IntegrationEvent;
use crate::projection::names::{self, Doubt};
use crate::read_model::ProvenEvent;
use event_streams::{RecordedEvent, Unavailable};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

/// The result of verifying a message.
#[derive(Debug)]
pub(in crate::projection) enum Verified {
    /// The publisher sealed this event, or the log has it under this id and revision.
    Event(ProvenEvent),
    /// The log has the event, but it cannot be applied.
    OnlyInLog,
    /// The log has no such event.
    Forged(Doubt),
}

/// The log's content at the revision of a message.
enum InLog {
    Event(RecordedEvent),
    Tombstone,
    Nothing,
}

impl Repair {
    /// Verifies each message. Messages that their seal does not prove are looked up in the log, many at a time, and replaced by
    /// the log's event.
    ///
    /// # Errors
    /// When the store or the key store fails.
    pub(in crate::projection) async fn verify(
        &self,
        events: &[IntegrationEvent],
    ) -> anyhow::Result<Vec<Verified>> {
        let ids = events.iter().filter_map(|event| event.change.key());
        // These ids come from outside. An unknown key does not count as lost.
        let keys = self.keys.look_up(&ids.collect::<Vec<_>>()).await?;
        let mut looks = Vec::with_capacity(events.len());
        for event in events {
            looks.push(self.look(event, names::of_message(event, &keys)));
        }
        let known: Vec<_> = stream::iter(looks).buffered(READS).try_collect().await?;
        let found = known.iter().zip(events);
        let found = found.filter_map(|(known, event)| Some((event.user, known.as_ref().ok()?)));
        let mut revised = self.revise(&found.collect::<Vec<_>>()).await?.into_iter();
        let verified = known.into_iter().map(|known| match known {
            Err(verified) => verified,
            Ok(_) => match revised.next() {
                Some(Ok(event)) => Verified::Event(event),
                Some(Err(Refused::KeyLost(_) | Refused::ForEver(..))) | None => Verified::OnlyInLog,
            },
        });
        Ok(verified.collect())
    }

    /// The verified message, or the log's event if the seal proves nothing.
    async fn look(
        &self,
        event: &IntegrationEvent,
        proven: Result<ProvenEvent, Doubt>,
    ) -> Result<Result<RecordedEvent, Verified>, Unavailable> {
        let doubt = match proven {
            Ok(event) => return Ok(Err(Verified::Event(event))),
            Err(doubt) => doubt,
        };
        Ok(match self.in_log(event).await? {
            InLog::Event(recorded) => Ok(recorded),
            InLog::Tombstone => Err(Verified::Event(erasure_by_tombstone(event.user))),
            InLog::Nothing => Err(Verified::Forged(doubt)),
        })
    }

    /// Whether the log has the event of this message. True for a tombstoned stream, whose events can no longer be read.
    ///
    /// # Errors
    /// When the store is unavailable.
    pub(in crate::projection) async fn is_in_log(
        &self,
        event: &IntegrationEvent,
    ) -> Result<bool, Unavailable> {
        Ok(!matches!(self.in_log(event).await?, InLog::Nothing))
    }

    async fn in_log(&self, event: &IntegrationEvent) -> Result<InLog, Unavailable> {
        let Some(events) = self.read(event.user, event.revision, 1).await? else {
            return Ok(InLog::Tombstone);
        };
        let mut same = events
            .into_iter()
            .filter(|found| found.revision == event.revision && found.id == event.id);
        Ok(same.next().map_or(InLog::Nothing, InLog::Event))
    }
}
