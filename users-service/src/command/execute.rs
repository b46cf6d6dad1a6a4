//! The execution of a request's command: now, or later if the client prefers that and the queue takes the command.
//!
//! Invariant: a command that was given to the queue is executed now only under the same key, so it is never executed twice.

use super::envelope::{Command, Committed};
use super::error::CommandError;
use super::handler::CommandHandler;
use super::idempotency_key::IdempotencyKey;
use super::prefer::prefers_async;
use super::queue::CommandSender;
use super::request_context::RequestContext;
use super::status_link::StatusLink;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpRequest, dev::Payload};
use std::future::{Ready, ready};
use web::Problem;

/// What is needed in order to execute the command of one request.
pub(super) struct Execute {
    handler: Data<CommandHandler>,
    context: RequestContext,
    /// Takes the command, if the client prefers that it is executed later.
    later: Option<Data<CommandSender>>,
}

/// What has become of a command that was not refused.
pub(super) enum Executed {
    /// It was executed.
    Now(Committed),
    /// It is in the queue.
    Later(StatusLink),
}

impl Execute {
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let handler = request.app_data::<Data<CommandHandler>>();
        let handler = handler.ok_or_else(Problem::internal)?;
        let sender = request.app_data::<Data<CommandSender>>();
        let later = sender.filter(|_| prefers_async(request.headers()));
        Ok(Self {
            handler: Data::clone(handler),
            context: RequestContext::of(request, handler)?,
            later: later.cloned(),
        })
    }

    pub(super) async fn run(self, command: Command) -> Result<Executed, CommandError> {
        let mut envelope = self.context.envelope(command);
        if let Some(sender) = &self.later {
            // A repeated command is answered with its outcome.
            let is_repeated = envelope.key.is_some() && self.handler.is_accepted(&envelope).await;
            envelope.key.get_or_insert_with(IdempotencyKey::random);
            if !is_repeated
                && let Some(link) = self.handler.link(&envelope)
                && sender.send(&envelope, &link).await
            {
                return Ok(Executed::Later(link));
            }
        }
        self.handler.execute(&envelope).await.map(Executed::Now)
    }
}

impl FromRequest for Execute {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
    }
}
