//! Why a message is not executed.
//!
//! Invariant: no text repeats a text of the message, because it goes to logs, headers and other queues.

use crate::command::idempotency_key::NotAKey;
use crate::problem_types::MALFORMED_KEY;
use web::Problem;
use web::problem_types::{BODY_TOO_LARGE, MALFORMED_BODY, UNSUPPORTED_MEDIA_TYPE};

/// The reason why a message is not executed.
#[derive(Debug)]
pub(super) enum Unacceptable {
    /// It goes to the dead-letter queue.
    NotACommand(NotACommand),
    /// It is a command whose data breaks rules. It is refused.
    Invalid(Problem),
}

/// The reason why a message cannot be read as a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotACommand {
    #[error("the message has more than {0} bytes")]
    TooLarge(usize),
    #[error(r#"the message is not {{"command":"…","data":{{…}}}} in JSON"#)]
    Malformed,
    #[error("the command is unknown")]
    Unknown,
    #[error("the message-id is refused: {0}")]
    MessageId(#[from] NotAKey),
    #[error("plain commands are refused (COMMANDS_PLAIN=refuse)")]
    Plain,
    #[error("the sealed command does not open")]
    DoesNotOpen,
    #[error("the sealed command is so old that it may have been executed and forgotten")]
    TooOld,
}

impl NotACommand {
    pub(super) fn problem(self) -> Problem {
        let kind = match self {
            Self::TooLarge(_) => BODY_TOO_LARGE,
            Self::Malformed | Self::Unknown | Self::DoesNotOpen | Self::TooOld => MALFORMED_BODY,
            Self::MessageId(_) => MALFORMED_KEY,
            Self::Plain => UNSUPPORTED_MEDIA_TYPE,
        };
        Problem::new(kind, self.to_string())
    }
}

impl From<NotACommand> for Unacceptable {
    fn from(reason: NotACommand) -> Self {
        Self::NotACommand(reason)
    }
}

impl From<Problem> for Unacceptable {
    fn from(problem: Problem) -> Self {
        Self::Invalid(problem)
    }
}
