//! Which messages the log confirms.

use super::{READS, Refused, Repair, erasure_by_tombstone};
use crate::integration::message::IntegrationEvent;
use crate::projection::directory::DirectoryEvent;
use crate::projection::names::{self, Doubt};
use event_streams::{RecordedEvent, Unavailable};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};

/// What a message turns out to be.
#[derive(Debug)]
pub(in crate::projection) enum Verified {
    /// The event that the publisher sealed, or that the log has under this id and revision.
    Event(DirectoryEvent),
    /// The log has it, and it cannot be applied.
    OnlyInLog,
    /// The log has no such event.
    Forged(Doubt),
}

/// What the log has at the revision of a message.
enum InLog {
    Event(RecordedEvent),
    Tombstone,
    Nothing,
}

impl Repair {
    /// Finds out what each message is. One that its seal does not prove is looked up in the log, many at a time; what the
    /// log has takes its place.
    ///
    /// # Errors
    /// When the store or the key store fails.
    pub(in crate::projection) async fn verify(
        &self,
        events: &[IntegrationEvent],
    ) -> anyhow::Result<Vec<Verified>> {
        let ids = events.iter().filter_map(|event| event.change.key());
        // Ids from outside: a key that never was is not a lost one.
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

    /// What a message is, or the event that the log has in its place.
    async fn look(
        &self,
        event: &IntegrationEvent,
        proven: Result<DirectoryEvent, Doubt>,
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

    /// Whether the log has the event of this message; true of a tombstoned stream, which had all of them.
    ///
    /// # Errors
    /// When the store is away.
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
