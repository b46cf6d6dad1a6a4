//! The operator's commands for parked streams. Every decision to skip an event is itself an event in stream `operations`. It
//! records who skipped what, when and why, without personal data.
//!
//! Both commands hand the checkpoint over: the active publisher starts again from it, with its list of parked streams.

use super::checkpoint::{Checkpoint, SaveError};
use super::parking::ParkedStream;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use event_streams::{AppendError, Direction, EventStreams, Expected, NewEvent, ReadError};
use jittered_backoff::Backoff;
use serde::Serialize;
use uuid::Uuid;

/// The stream of the operators' decisions.
pub const OPERATIONS: &str = "operations";
/// Stored name of the decision to skip an event.
pub const PARKED_EVENT_SKIPPED: &str = "ParkedEventSkipped.v1";

/// How many times an append is tried while others write to the stream.
const ATTEMPTS: usize = 20;

/// A parked stream, and the event that could not be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The stream and its first unsent event.
    pub parked: ParkedStream,
    /// The type of that event. `None` if the event no longer exists.
    pub event_type: Option<String>,
}

/// An operator's decision.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The operator's name.
    pub by: String,
    /// The reason, without personal data.
    pub reason: String,
}

#[derive(Serialize)]
struct Skipped<'a> {
    by: &'a str,
    stream: &'a str,
    revision: u64,
    #[serde(rename = "type")]
    event_type: Option<&'a str>,
    reason: &'a str,
}

/// The parked streams.
///
/// # Errors
/// When the store is unavailable.
pub async fn list(store: &EventStreams) -> anyhow::Result<Vec<Waiting>> {
    let mut list = Vec::new();
    for parked in Checkpoint::read(store).await?.parked() {
        list.push(waiting(store, parked.clone()).await?);
    }
    Ok(list)
}

/// Makes the publisher retry all parked streams now.
///
/// # Errors
/// When the store is unavailable.
pub async fn retry(store: &EventStreams) -> anyhow::Result<()> {
    hand_over(store, |parked| Ok(parked.to_vec())).await
}

/// Records the decision, skips the first unsent event of a parked stream, and makes the publisher send the rest.
///
/// # Errors
/// When the stream is not parked, no reason is given, or the store is unavailable.
pub async fn skip(
    store: &EventStreams,
    stream: &str,
    decision: &Decision,
) -> anyhow::Result<Waiting> {
    ensure!(!decision.reason.trim().is_empty(), "a reason is needed");
    let checkpoint = Checkpoint::read(store).await?;
    let mut parked = checkpoint.parked().iter();
    let parked = parked.find(|one| one.stream == stream);
    let parked = parked.with_context(|| format!("{stream} is not parked"))?;
    let skipped = waiting(store, parked.clone()).await?;
    record(store, &skipped, decision).await?;
    hand_over(store, |parked| {
        let mut parked = parked.to_vec();
        let one = parked.iter_mut().find(|one| **one == skipped.parked);
        let one = one.with_context(|| format!("{stream} went on meanwhile; nothing is skipped"))?;
        one.revision += 1;
        one.unknown = None;
        Ok(parked)
    })
    .await?;
    Ok(skipped)
}

/// Changes the list of parked streams in the last checkpoint, even while a publisher writes checkpoints.
async fn hand_over(
    store: &EventStreams,
    change: impl Fn(&[ParkedStream]) -> anyhow::Result<Vec<ParkedStream>>,
) -> anyhow::Result<()> {
    let mut backoff = Backoff::default();
    for _ in 0..ATTEMPTS {
        let checkpoint = Checkpoint::read(store).await?;
        let parked = change(checkpoint.parked())?;
        match checkpoint.hand_over(store, parked).await {
            Err(SaveError::Fenced) => backoff.pause().await,
            handed_over => return Ok(handed_over?),
        }
    }
    bail!("the checkpoint moves too fast; try again")
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

async fn record(
    store: &EventStreams,
    skipped: &Waiting,
    decision: &Decision,
) -> anyhow::Result<()> {
    let data = Skipped {
        by: &decision.by,
        stream: &skipped.parked.stream,
        revision: skipped.parked.revision,
        event_type: skipped.event_type.as_deref(),
        reason: &decision.reason,
    };
    let event = NewEvent {
        id: Uuid::new_v4(),
        event_type: PARKED_EVENT_SKIPPED.into(),
        data: serde_json::to_vec(&data)?.into(),
        metadata: Bytes::new(),
    };
    let mut backoff = Backoff::default();
    for _ in 0..ATTEMPTS {
        let last = store.read_last(OPERATIONS).await?;
        let expected = last.map_or(Expected::NoStream, |last| Expected::Revision(last.revision));
        match store
            .append(OPERATIONS, expected, vec![event.clone()])
            .await
        {
            Err(AppendError::Conflict { .. }) => backoff.pause().await,
            appended => return Ok(appended.map(drop)?),
        }
    }
    bail!("stream {OPERATIONS} moves too fast; try again")
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
            by: "grace",
            stream: "users-77",
            revision: 0,
            event_type: Some("UserPromoted.v9"),
            reason: "a test wrote it",
        };
        assert_eq!(serde_json::to_value(skipped).unwrap(), example["data"]);
    }
}
