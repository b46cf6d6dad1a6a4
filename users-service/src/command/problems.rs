//! One problem for each reason why a command was not executed, whoever is told: a client of HTTP, or the sender of a message.

use super::error::CommandError;
use crate::domain::UserError;
use crate::problem_types;
use web::Problem;

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;

/// The problem with the command. A failure is logged here.
pub(super) fn problem(error: CommandError) -> Problem {
    match error {
        CommandError::Rejected(UserError::Unknown | UserError::Erased | UserError::Abandoned) => {
            Problem::not_found()
        }
        CommandError::Rejected(UserError::UsernameTaken) => {
            Problem::new(problem_types::USERNAME_TAKEN, "the username is taken")
        }
        CommandError::Rejected(UserError::Exists) => Problem::new(
            problem_types::ID_USED,
            "the id belongs, or once belonged, to a user",
        ),
        CommandError::RefusedBefore(refusal) => problem(*refusal),
        CommandError::PreconditionFailed => Problem::new(
            problem_types::PRECONDITION_FAILED,
            "the user has another version than If-Match requires",
        ),
        CommandError::Gone => Problem::new(
            problem_types::GONE,
            "the command was executed before, and its user has been deleted since",
        ),
        CommandError::KeyReused => Problem::new(
            problem_types::KEY_REUSED,
            "the idempotency key was used for a request with another body",
        ),
        CommandError::Conflict | CommandError::Superseded => {
            let detail = "too many conflicts with other requests";
            Problem::new(problem_types::CONTENDED, detail).retry_after(RETRY_AFTER)
        }
        CommandError::Overloaded => {
            problem_types::overloaded("the service has too much to do, and nothing was done")
        }
        CommandError::Unavailable(source) | CommandError::Unreadable(source) => {
            tracing::warn!(error = %source, "a command was not executed");
            unavailable()
        }
    }
}

/// The problem with a command that may be executed later.
pub(super) fn unavailable() -> Problem {
    Problem::unavailable("the service is temporarily unavailable", RETRY_AFTER)
}
