//! Worker numbers in the log: reading them, and appending to them.
//!
//! Invariant: an append counts only if the log shows it directly after the event on which it was decided. So neither a
//! deleted stream nor a log that is replaced by an older copy leads to a window that overlaps another one.

use event_sourcing::{Decider as _, fold};
use event_streams::{
    AppendError, Direction, EventStreams, Expected, NewEvent, ReadError, RecordedEvent, Unavailable,
};
use uuid::Uuid;

use crate::{
    domain::window::{NumberCommand, Tenure, WindowGranted, WindowRefused, WorkerNumber},
    stored_event,
    window_record::WindowRecord,
};

/// The stream that says which floor was set last, after all worker numbers had it.
const FLOOR: &str = "uuids-floor";

/// The worker numbers of one event store.
#[derive(Clone)]
pub(crate) struct WorkerNumbers {
    streams: EventStreams,
}

/// A worker number as this process last saw it in the log.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KnownNumber {
    pub(crate) worker: u16,
    pub(crate) tenure: Tenure,
    /// The revision and the id of the last event.
    last: Option<(u64, Uuid)>,
    /// The id of the event before the last one.
    before: Option<Uuid>,
}

impl KnownNumber {
    /// Decides on a command in this state; `None` if there is nothing to append.
    pub(crate) fn decide(
        &self,
        command: NumberCommand,
    ) -> Result<Option<WindowGranted>, WindowRefused> {
        let events = WorkerNumber::decide(&self.tenure, command)?;
        Ok(events.into_iter().next())
    }

    /// The record of the last window, if there is one.
    pub(crate) fn record(&self) -> Option<WindowRecord> {
        let ((revision, event), Tenure::Granted(last)) = (self.last?, self.tenure) else {
            return None;
        };
        Some(WindowRecord {
            until_ms: last.window.until_ms,
            worker: self.worker,
            revision,
            event,
        })
    }
}

impl WorkerNumbers {
    pub(crate) fn new(streams: EventStreams) -> Self {
        Self { streams }
    }

    /// Reads a number from the log; `None` if it can never be granted again.
    pub(crate) async fn look(&self, worker: u16) -> Result<Option<KnownNumber>, Unavailable> {
        let stream = stream(worker);
        // The last event determines the state. The one before it shows whether a stranger wrote the last.
        let newest_first = match self
            .streams
            .read(&stream, Direction::BackwardFromEnd, 2)
            .await
        {
            Ok(events) => events,
            Err(ReadError::StreamDeleted) => return Ok(None),
            Err(ReadError::Unavailable(unavailable)) => return Err(unavailable),
        };
        let Some(tenure) = tenure(&newest_first) else {
            tracing::warn!(
                worker,
                "the worker number has an event that is no window after the others"
            );
            return Ok(None);
        };
        let mut newest_first = newest_first.iter();
        Ok(Some(KnownNumber {
            worker,
            tenure,
            last: newest_first.next().map(|last| (last.revision, last.id)),
            before: newest_first.next().map(|before| before.id),
        }))
    }

    /// Appends an event to a number. The same event can be appended again while the outcome is unknown.
    pub(crate) async fn append(
        &self,
        known: &KnownNumber,
        event: NewEvent,
    ) -> Result<(), AppendError> {
        let expected = match known.last {
            None => Expected::NoStream,
            Some((revision, _)) => Expected::Revision(revision),
        };
        let stream = stream(known.worker);
        self.streams.append(&stream, expected, vec![event]).await?;
        Ok(())
    }

    /// Reads the number after an append. `None` if the log does not show the event directly after those that `known` had.
    pub(crate) async fn confirm(
        &self,
        known: &KnownNumber,
        event: Uuid,
    ) -> Result<Option<KnownNumber>, Unavailable> {
        let seen = self.look(known.worker).await?;
        Ok(seen.filter(|seen| {
            let last = seen.last.map(|(_, id)| id);
            (last, seen.before) == (Some(event), known.last.map(|(_, id)| id))
        }))
    }

    /// Whether the log has the window of a record.
    pub(crate) async fn has(&self, record: &WindowRecord) -> Result<bool, Unavailable> {
        let from = Direction::ForwardFrom(record.revision);
        match self.streams.read(&stream(record.worker), from, 1).await {
            // A later revision means that the stream was truncated up to there.
            Ok(events) => Ok(events
                .first()
                .is_some_and(|event| event.id == record.event || event.revision > record.revision)),
            Err(ReadError::StreamDeleted) => Ok(true),
            Err(ReadError::Unavailable(unavailable)) => Err(unavailable),
        }
    }

    /// The floor that all worker numbers have, and the revision of its event.
    pub(crate) async fn floor(&self) -> anyhow::Result<Option<(u64, u64)>> {
        let Some(last) = self.streams.read_last(FLOOR).await? else {
            return Ok(None);
        };
        Ok(Some((stored_event::load_floor(&last)?, last.revision)))
    }

    /// Records that all worker numbers have a floor; `Conflict` if another floor was recorded meanwhile.
    pub(crate) async fn record_floor(
        &self,
        floor_ms: u64,
        last_revision: Option<u64>,
    ) -> Result<(), AppendError> {
        let expected = last_revision.map_or(Expected::NoStream, Expected::Revision);
        let event = stored_event::store_floor(floor_ms);
        self.streams.append(FLOOR, expected, vec![event]).await?;
        Ok(())
    }
}

/// The tenure that the last events say; `None` if one of them is missing or no window, or if they overlap.
fn tenure(newest_first: &[RecordedEvent]) -> Option<Tenure> {
    let is_gapless = match newest_first {
        [] => true,
        [only] => only.revision == 0,
        [last, before, ..] => before.revision + 1 == last.revision,
    };
    let events = newest_first.iter().rev().map(stored_event::load);
    let events = events.collect::<Result<Vec<_>, _>>().ok()?;
    let tenure = fold::<WorkerNumber>(&events);
    (is_gapless && tenure != Tenure::Spoiled).then_some(tenure)
}

fn stream(worker: u16) -> String {
    format!("uuids-worker-{worker}")
}
