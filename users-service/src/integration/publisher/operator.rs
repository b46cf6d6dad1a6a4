//! The operator's commands for parked streams. Stream `operations` records every decision to skip an event.
//!
//! Both commands hand the checkpoint over: the active publisher starts again from it, with its list of parked streams.

use super::checkpoint::{Checkpoint, SaveError};
use super::parking::ParkedStream;
use crate::operations::{self, Decision, OperationError, OperatorName, Reason};
use event_streams::{Direction, EventStreams, ReadError};
use futures::stream::{self, StreamExt as _, TryStreamExt as _};
use jittered_backoff::Backoff;
use serde::Serialize;

/// Stored name of the decision to skip an event.
pub const PARKED_EVENT_SKIPPED: &str = "ParkedEventSkipped.v1";

/// How many times the checkpoint is handed over while a publisher writes checkpoints.
const ATTEMPTS: usize = 20;
/// How many streams are read at once.
const READS: usize = 16;

/// A parked stream, and the event that could not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The stream and its first unsent event.
    pub parked: ParkedStream,
    /// The type of that event. `None` if the event no longer exists.
    pub event_type: Option<String>,
}

#[derive(Serialize)]
struct Skipped<'a> {
    by: &'a OperatorName,
    stream: &'a str,
    revision: u64,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    reason: &'a Reason,
}

/// The parked streams.
///
/// # Errors
/// When the store is unavailable.
pub async fn list(store: &EventStreams) -> anyhow::Result<Vec<Waiting>> {
    let checkpoint = Checkpoint::read(store).await?;
    let parked = checkpoint.parked().to_vec();
    let parked = stream::iter(parked).map(|parked| waiting(store, parked));
    parked.buffered(READS).try_collect().await
}

/// Makes the publisher retry all parked streams now.
///
/// # Errors
/// When the store is unavailable.
pub async fn retry(store: &EventStreams) -> Result<(), OperationError> {
    hand_over(store, |parked| Ok(parked.to_vec())).await
}

/// Records the decision, skips the first unsent event of a parked stream, and makes the publisher send the rest. With a
/// revision, only the event of this revision is skipped, so a repeated request skips no other one.
///
/// # Errors
/// When the stream is not parked, or not at this revision, or the store is unavailable.
pub async fn skip(
    store: &EventStreams,
    stream: &str,
    revision: Option<u64>,
    decision: &Decision,
) -> Result<Waiting, OperationError> {
    let checkpoint = Checkpoint::read(store).await;
    let checkpoint = checkpoint.map_err(anyhow::Error::from)?;
    let parked = find(checkpoint.parked(), stream)?;
    if revision.is_some_and(|revision| revision != parked.revision) {
        return Err(OperationError::MovedOn);
    }
    let skipped = waiting(store, parked.clone()).await?;
    let record = Skipped {
        by: &decision.by,
        stream,
        revision: skipped.parked.revision,
        event_type: skipped.event_type.as_deref(),
        reason: &decision.reason,
    };
    operations::record(store, PARKED_EVENT_SKIPPED, &record).await?;
    hand_over(store, |parked| {
        let mut parked = parked.to_vec();
        let one = parked.iter_mut().find(|one| **one == skipped.parked);
        let one = one.ok_or(OperationError::MovedOn)?;
        one.revision += 1;
        one.unknown = None;
        Ok(parked)
    })
    .await?;
    Ok(skipped)
}

fn find<'a>(parked: &'a [ParkedStream], stream: &str) -> Result<&'a ParkedStream, OperationError> {
    let found = parked.iter().find(|one| one.stream == stream);
    found.ok_or_else(|| OperationError::NotParked(stream.to_owned()))
}

/// Changes the list of parked streams in the last checkpoint, even while a publisher writes checkpoints.
async fn hand_over(
    store: &EventStreams,
    change: impl Fn(&[ParkedStream]) -> Result<Vec<ParkedStream>, OperationError>,
) -> Result<(), OperationError> {
    let mut backoff = Backoff::default();
    for _ in 0..ATTEMPTS {
        let checkpoint = Checkpoint::read(store).await;
        let checkpoint = checkpoint.map_err(anyhow::Error::from)?;
        let parked = change(checkpoint.parked())?;
        match checkpoint.hand_over(store, parked).await {
            Err(SaveError::Fenced) => backoff.pause().await,
            handed_over => return Ok(handed_over.map_err(anyhow::Error::from)?),
        }
    }
    Err(anyhow::anyhow!("the checkpoint moves too fast; try again").into())
}

async fn waiting(store: &EventStreams, parked: ParkedStream) -> anyhow::Result<Waiting> {
    let from = Direction::ForwardFrom(parked.revision);
    let event_type = match store.read(&parked.stream, from, 1).await {
        Ok(events) => events.into_iter().next().map(|event| event.event_type),
        Err(ReadError::StreamDeleted) => None,
        Err(ReadError::Unavailable(error)) => return Err(error.into()),
    };
    Ok(Waiting { parked, event_type })
}

#[cfg(test)]
mod tests {
    use super::Skipped;
    use serde_json::Value;

    #[test]
    fn a_decision_is_written_as_in_its_frozen_example() {
        let example = include_str!("../../../tests/fixtures/events/ParkedEventSkipped.v1.json");
        let example: Value = serde_json::from_str(example).unwrap();
        let skipped = Skipped {
            by: &"grace".parse().unwrap(),
            stream: "users-77",
            revision: 0,
            event_type: Some("UserPromoted.v9"),
            reason: &"a test wrote it".parse().unwrap(),
        };
        assert_eq!(serde_json::to_value(skipped).unwrap(), example["data"]);
    }
}
