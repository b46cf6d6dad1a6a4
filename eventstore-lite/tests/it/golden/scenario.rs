//! The recorded conversations as data. `golden-data/README.md` describes them.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

/// Steps that run in order, and the names of values that differ between runs.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Scenario {
    pub(crate) name: String,
    pub(crate) steps: Vec<Step>,
    /// Empty if positions are not compared.
    #[serde(default)]
    pub(crate) positions_ascending: Vec<String>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "step", rename_all = "lowercase")]
pub(crate) enum Step {
    Call {
        method: String,
        send: Vec<Value>,
        answer: Answer,
    },
    Open {
        stream: String,
        method: String,
        send: Vec<Value>,
    },
    Send {
        stream: String,
        send: Vec<Value>,
    },
    Receive {
        stream: String,
        count: usize,
        within_ms: u64,
        answer: Answer,
    },
    Quiet {
        stream: String,
        ms: u64,
        answer: Answer,
    },
    End {
        stream: String,
        answer: Answer,
    },
    Cancel {
        stream: String,
    },
    Pause {
        ms: u64,
    },
}

/// An answer. It has a `code` only if the call ended.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Answer {
    pub(crate) messages: Vec<Value>,
    #[serde(default)]
    pub(crate) code: Option<String>,
    /// The text of an error.
    #[serde(default)]
    pub(crate) message: Option<String>,
    #[serde(default)]
    pub(crate) trailers: BTreeMap<String, String>,
}

impl Step {
    pub(crate) fn answer(&self) -> Option<&Answer> {
        match self {
            Self::Call { answer, .. }
            | Self::Receive { answer, .. }
            | Self::Quiet { answer, .. }
            | Self::End { answer, .. } => Some(answer),
            Self::Open { .. } | Self::Send { .. } | Self::Cancel { .. } | Self::Pause { .. } => {
                None
            }
        }
    }

    pub(crate) fn answer_mut(&mut self) -> Option<&mut Answer> {
        match self {
            Self::Call { answer, .. }
            | Self::Receive { answer, .. }
            | Self::Quiet { answer, .. }
            | Self::End { answer, .. } => Some(answer),
            Self::Open { .. } | Self::Send { .. } | Self::Cancel { .. } | Self::Pause { .. } => {
                None
            }
        }
    }
}

/// The fields with bytes that are written in a shorthand.
pub(crate) const BYTES: [&str; 3] = ["streamName", "data", "customMetadata"];
