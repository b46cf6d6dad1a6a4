//! Attempts at commands.
//!
//! Invariant: an attempt at a message that was delivered before runs alone in its process, and is counted durably before it
//! begins. So if the process dies, the count names the message that was running, and no other.

use super::attempts::{Attempts, MessageHash};
use super::command_end::CommandEnd;
use crate::command::command_answer::CommandAnswer;
use crate::command::envelope::Envelope;
use crate::command::error::CommandError;
use crate::command::handler::CommandHandler;
use crate::command::problems::problem;
use messaging::Delivery;
use tokio::sync::RwLock;
use tokio_util::sync::CancellationToken;
use web::Problem;

/// A message with so many unfinished attempts is not tried again. Its first delivery was not counted, so it was delivered
/// three times without an outcome.
const MOST_ATTEMPTS: i64 = 2;
/// The reason why such a message is a dead letter.
const NO_OUTCOME: &str = "it was delivered three times without an outcome";

/// Makes attempts at commands.
#[derive(Debug)]
pub(super) struct Attempting {
    handler: CommandHandler,
    attempts: Attempts,
    /// Taken for writing by an attempt that runs alone, and for reading by all others.
    turns: RwLock<()>,
}

impl Attempting {
    pub(super) fn new(handler: CommandHandler, attempts: Attempts) -> Self {
        Self {
            handler,
            attempts,
            turns: RwLock::default(),
        }
    }

    /// Makes one attempt, alone if the message was delivered before. Returns `None` if it is `over` before that.
    pub(super) async fn attempt(
        &self,
        envelope: &Envelope,
        delivery: &Delivery,
        over: &CancellationToken,
    ) -> Option<anyhow::Result<CommandEnd>> {
        if delivery.redelivered {
            let _turn = over.run_until_cancelled(self.turns.write()).await?;
            return Some(self.counted_attempt(envelope, delivery).await);
        }
        let _turn = over.run_until_cancelled(self.turns.read()).await?;
        Some(self.uncounted_attempt(envelope).await)
    }

    async fn counted_attempt(
        &self,
        envelope: &Envelope,
        delivery: &Delivery,
    ) -> anyhow::Result<CommandEnd> {
        let attempts = &self.attempts;
        let message = self.hash(delivery);
        if attempts.unfinished(&message).await? >= MOST_ATTEMPTS {
            let reason = NO_OUTCOME.to_owned();
            return Ok(CommandEnd::dead(
                envelope.user(),
                reason,
                &Problem::internal(),
            ));
        }
        attempts.count(&message).await?;
        let attempted = self.uncounted_attempt(envelope).await;
        let counted = match &attempted {
            Ok(_) => attempts.forget(&message).await,
            Err(_) => attempts.discount(&message).await,
        };
        if let Err(error) = counted {
            tracing::warn!(%error, "an attempt that ended stays counted");
        }
        attempted
    }

    async fn uncounted_attempt(&self, envelope: &Envelope) -> anyhow::Result<CommandEnd> {
        tracing::debug!("a command of the queue is tried");
        let answer = match self.handler.execute(envelope).await {
            Ok(done) => CommandAnswer::done(envelope.command.kind(), &done),
            Err(
                error @ (CommandError::Unavailable(_)
                | CommandError::Unreadable(_)
                | CommandError::Conflict
                | CommandError::Superseded
                | CommandError::Overloaded),
            ) => return Err(error.into()),
            Err(
                refusal @ (CommandError::Rejected(_)
                | CommandError::RefusedBefore(_)
                | CommandError::PreconditionFailed
                | CommandError::Gone
                | CommandError::KeyReused),
            ) => CommandAnswer::refused(envelope.user(), &problem(refusal)),
        };
        Ok(CommandEnd::answered(answer))
    }

    /// Forgets the attempts at a message that was delivered before and is a dead letter now.
    pub(super) async fn forget(&self, delivery: &Delivery) {
        if let Err(error) = self.attempts.forget(&self.hash(delivery)).await {
            tracing::warn!(%error, "the attempts at a dead letter stay counted");
        }
    }

    fn hash(&self, delivery: &Delivery) -> MessageHash {
        let id = delivery.id().unwrap_or_default();
        self.handler.secret.message(id, &delivery.body)
    }
}
