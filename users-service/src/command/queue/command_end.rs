//! What becomes of a message.

use crate::command::command_answer::CommandAnswer;
use crate::domain::UserId;
use web::Problem;

/// The end of a message.
pub(super) struct CommandEnd {
    pub(super) answer: CommandAnswer,
    /// Why the message goes to the dead-letter queue, if it does.
    pub(super) dead: Option<String>,
}

impl CommandEnd {
    pub(super) fn answered(answer: CommandAnswer) -> Self {
        let dead = None;
        Self { answer, dead }
    }

    pub(super) fn dead(user: Option<UserId>, reason: String, problem: &Problem) -> Self {
        Self {
            answer: CommandAnswer::refused(user, problem),
            dead: Some(reason),
        }
    }
}
