//! What the headers of a request say about its command.

use super::conditions::precondition;
use super::envelope::{Command, Envelope};
use super::handler::CommandHandler;
use super::idempotency_key::{IdempotencyKey, NotAKey};
use super::version::Precondition;
use crate::problem_types;
use crate::stored_event::Caller;
use crate::trace_parent::{TRACE_PARENT, trace_id};
use access_tokens::Access;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpMessage as _, HttpRequest};
use uuid::Uuid;
use web::Problem;

/// The header with the key under which a command is executed once.
const IDEMPOTENCY_KEY: &str = "idempotency-key";

/// What the headers of a request say about its command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RequestContext {
    caller: Caller,
    /// The trace id of `traceparent` (W3C Trace Context), or a new id if the request has no valid one. No other header is used,
    /// because a free text of the caller could hold personal data and would be stored.
    correlation: Uuid,
    key: Option<IdempotencyKey>,
    precondition: Precondition,
}

impl RequestContext {
    pub(super) fn of(request: &HttpRequest, handler: &CommandHandler) -> Result<Self, Problem> {
        let headers = request.headers();
        let parent = headers.get(TRACE_PARENT);
        let trace = parent.and_then(|parent| trace_id(parent.to_str().ok()?));
        let key = key(headers).map_err(|error| {
            let detail = format!("the header Idempotency-Key is refused: {error}");
            Problem::new(problem_types::MALFORMED_KEY, detail)
        })?;
        Ok(Self {
            caller: handler.caller(request.extensions().get::<Access>()),
            correlation: trace.unwrap_or_else(Uuid::new_v4),
            key,
            precondition: precondition(request)?,
        })
    }

    /// The envelope of the request's command.
    pub(super) fn envelope(self, command: Command) -> Envelope {
        let envelope = Envelope::new(command).of_caller(self.caller);
        let envelope = envelope.in_conversation(self.correlation);
        envelope.under_key(self.key).provided(self.precondition)
    }
}

/// The idempotency key, if the request has exactly one.
fn key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, NotAKey> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY);
    match (keys.next(), keys.next()) {
        (None, _) => Ok(None),
        (Some(key), None) => key.to_str().map_err(|_| NotAKey)?.parse().map(Some),
        (Some(_), Some(_)) => Err(NotAKey),
    }
}
