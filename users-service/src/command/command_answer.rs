//! The outcome of a command as its sender is told, without HTTP: in a reply to a message, and in the status of a command.
//!
//! Invariant: it has ids and rules, and no personal data.

use super::envelope::{CommandKind, Committed};
use super::version::Version;
use crate::domain::UserId;
use serde_json::{Value, json};
use web::{Problem, StatusCode};

/// The outcome of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandAnswer {
    status: u16,
    user: Option<UserId>,
    version: Option<Version>,
    problem: Option<Value>,
}

impl CommandAnswer {
    /// The command was executed.
    pub(super) fn done(kind: CommandKind, done: &Committed) -> Self {
        let version = match kind {
            CommandKind::Create | CommandKind::Patch => Some(Version::of(done.revision)),
            CommandKind::Delete => None,
        };
        Self {
            status: status_of(kind).as_u16(),
            user: Some(done.user),
            version,
            problem: None,
        }
    }

    /// The command was not executed. `user` is the user that it names, if it names one.
    pub(super) fn refused(user: Option<UserId>, problem: &Problem) -> Self {
        Self {
            status: problem.status().as_u16(),
            user,
            version: None,
            problem: Some(problem.json()),
        }
    }

    /// `{"status":201,"id":"…","etag":"\"…\""}` or `{"status":409,"id":"…","problem":{…}}`. A deletion has no `etag`, and a
    /// refused command that names no user has no `id`.
    #[must_use]
    pub fn json(&self) -> Value {
        let mut answer = json!({"status": self.status});
        if let Some(user) = self.user {
            answer["id"] = user.to_string().into();
        }
        if let Some(version) = &self.version {
            answer["etag"] = version.entity_tag().into();
        }
        if let Some(problem) = &self.problem {
            answer["problem"] = problem.clone();
        }
        answer
    }
}

/// The status of a command that was executed, as HTTP has it.
pub(super) fn status_of(kind: CommandKind) -> StatusCode {
    match kind {
        CommandKind::Create => StatusCode::CREATED,
        CommandKind::Patch | CommandKind::Delete => StatusCode::NO_CONTENT,
    }
}
