//! The outcome of a command as its sender is told, without HTTP: in a reply to a message, and in the status of a command.
//!
//! Invariant: it has ids and rules, and no personal data.

use super::envelope::{CommandKind, Committed};
use super::version::Version;
use crate::domain::UserId;
use crate::message_schema::{of_written, user_id};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::Value;
use web::{Problem, StatusCode};

/// The outcome of a command. As JSON it is `{"status":201,"id":"…","etag":"\"…\""}` or
/// `{"status":409,"id":"…","problem":{…}}`. A deletion has no `etag`, and a refused command that names no user has no `id`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, JsonSchema)]
pub struct CommandAnswer {
    /// The status that HTTP has for the outcome.
    #[schemars(schema_with = "status")]
    status: u16,
    /// The user that the command names, or has created.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "user_id")]
    id: Option<String>,
    /// The user's version after a creation or a change, as the header `ETag` has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "etag")]
    etag: Option<String>,
    /// Why the command was refused: the problem that HTTP has for it (RFC 9457).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "problem")]
    problem: Option<Value>,
}

impl CommandAnswer {
    /// The command was executed.
    pub(super) fn done(kind: CommandKind, done: &Committed) -> Self {
        let etag = match kind {
            CommandKind::Create | CommandKind::Patch => {
                Some(Version::of(done.revision).entity_tag())
            }
            CommandKind::Delete => None,
        };
        Self {
            status: status_of(kind).as_u16(),
            id: Some(done.user.to_string()),
            etag,
            problem: None,
        }
    }

    /// The command was not executed. `user` is the user that it names, if it names one.
    pub(super) fn refused(user: Option<UserId>, problem: &Problem) -> Self {
        Self {
            status: problem.status().as_u16(),
            id: user.map(|user| user.to_string()),
            etag: None,
            problem: Some(problem.json()),
        }
    }

    /// The answer as JSON.
    ///
    /// # Panics
    /// Never, because a struct of texts and numbers serializes.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::to_value(self).expect("a struct of texts and numbers serializes")
    }
}

/// The schema of answers.
pub(super) fn schema(title: &str, description: &str) -> Value {
    of_written::<CommandAnswer>(title, description)
}

fn status(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer", "minimum": 200, "maximum": 599})
}

fn etag(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "string", "pattern": "^\"[A-Za-z0-9_-]+\"$"})
}

fn problem(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "Why the command was refused: the problem that HTTP has for it (RFC 9457). docs/API.md lists the types.",
        "type": "object",
        "properties": {
            "type": {"type": "string"},
            "title": {"type": "string"},
            "status": {"type": "integer"},
            "detail": {"type": "string"},
            "message": {"type": "string", "description": "The same as `detail`."},
            "errors": {
                "description": "Every wrong member of the data.",
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "pointer": {"type": "string", "description": "A JSON pointer that begins at `data`."},
                        "detail": {"type": "string"},
                    },
                    "required": ["detail"],
                },
            },
        },
        "required": ["type", "title", "status", "detail", "message"],
    })
}

/// The status of a command that was executed, as HTTP has it.
pub(super) fn status_of(kind: CommandKind) -> StatusCode {
    match kind {
        CommandKind::Create => StatusCode::CREATED,
        CommandKind::Patch | CommandKind::Delete => StatusCode::NO_CONTENT,
    }
}
