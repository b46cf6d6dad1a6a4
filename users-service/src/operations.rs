//! What operators decide about single events, and stream `operations`, which records who decided what, when and why.
//!
//! Invariants: a decision is recorded before it is carried out. Of two decisions about one event at most one is carried out.
//! The stream holds no personal data.

use crate::domain::UserId;
use bytes::Bytes;
use event_streams::{AppendError, EventStreams, Expected, NewEvent};
use jittered_backoff::Backoff;
use serde::Serialize;
use std::str::FromStr;
use uuid::Uuid;

/// The stream of the operators' decisions.
pub const OPERATIONS: &str = "operations";
/// How many times an append is tried while others write to the stream.
const ATTEMPTS: usize = 20;
/// The most characters of a reason.
const LONGEST_REASON: usize = 500;
/// The most characters of an operator's name.
const LONGEST_NAME: usize = 100;

/// An operator's decision to give up an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who decided.
    pub by: OperatorName,
    /// Why, without personal data.
    pub reason: Reason,
}

/// The name of an operator, or the pseudonym of an authenticated caller: 1 to 100 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct OperatorName(String);

/// The reason of a decision: 1 to 500 characters.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Reason(String);

/// Why a text cannot be recorded. The message completes the sentence "it …".
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WrongText {
    /// It is empty or too long.
    #[error("must have 1 to {0} characters")]
    Length(usize),
    /// It has line breaks or other control characters.
    #[error("must not have control characters")]
    ControlCharacter,
}

/// Why an operation was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum OperationError {
    /// The stream is not parked.
    #[error("{0} is not parked")]
    NotParked(String),
    /// The user is not held.
    #[error("user {0} is not held")]
    NotHeld(UserId),
    /// Another event than the operator saw is waiting by now.
    #[error("another event is waiting by now, and nothing was done; look at the list again")]
    MovedOn,
    /// A dependency failed. The operation may be repeated.
    #[error(transparent)]
    Failed(#[from] anyhow::Error),
}

impl FromStr for OperatorName {
    type Err = WrongText;

    fn from_str(text: &str) -> Result<Self, WrongText> {
        line(text, LONGEST_NAME).map(Self)
    }
}

impl FromStr for Reason {
    type Err = WrongText;

    fn from_str(text: &str) -> Result<Self, WrongText> {
        line(text, LONGEST_REASON).map(Self)
    }
}

/// A text without surrounding white space.
fn line(text: &str, longest: usize) -> Result<String, WrongText> {
    let text = text.trim();
    if !(1..=longest).contains(&text.chars().count()) {
        return Err(WrongText::Length(longest));
    }
    if text.chars().any(char::is_control) {
        return Err(WrongText::ControlCharacter);
    }
    Ok(text.to_owned())
}

/// Records a decision.
///
/// # Errors
/// When the store is unavailable, or other decisions are recorded all the time.
pub(crate) async fn record(
    store: &EventStreams,
    event_type: &'static str,
    data: &impl Serialize,
) -> anyhow::Result<()> {
    let event = NewEvent {
        id: Uuid::new_v4(),
        event_type: event_type.into(),
        data: serde_json::to_vec(data)?.into(),
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
    anyhow::bail!("stream {OPERATIONS} moves too fast; try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_has_a_reason_of_one_line_and_bounded_length() {
        let reason = |text: &str| text.parse::<Reason>();
        assert_eq!(reason(" a test "), Ok(Reason("a test".to_owned())));
        assert!(reason(&"ü".repeat(LONGEST_REASON)).is_ok());
        for wrong in ["", "  ", &"x".repeat(LONGEST_REASON + 1)] {
            assert_eq!(reason(wrong), Err(WrongText::Length(LONGEST_REASON)));
        }
        assert_eq!(reason("a\nb"), Err(WrongText::ControlCharacter));
        let name = "x".repeat(LONGEST_NAME + 1).parse::<OperatorName>();
        assert_eq!(name, Err(WrongText::Length(LONGEST_NAME)));
    }
}
