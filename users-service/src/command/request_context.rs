//! What the headers of a request say about its command.

use super::conditions::precondition;
use super::envelope::{Command, Envelope};
use super::handler::CommandHandler;
use super::idempotency_key::{IdempotencyKey, NotAKey};
use super::version::Precondition;
use crate::problem_types;
use crate::stored_event::Caller;
use access_tokens::Access;
use actix_web::http::header::HeaderMap;
use actix_web::web::Data;
use actix_web::{FromRequest, HttpMessage as _, HttpRequest, dev::Payload};
use std::future::{Ready, ready};
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
    fn of(request: &HttpRequest) -> Result<Self, Problem> {
        let headers = request.headers();
        let parent = headers.get("traceparent");
        let trace = parent.and_then(|parent| trace_id(parent.to_str().ok()?));
        let key = key(headers).map_err(|error| {
            let detail = format!("the header Idempotency-Key is refused: {error}");
            Problem::new(problem_types::MALFORMED_KEY, detail)
        })?;
        let handler = request.app_data::<Data<CommandHandler>>();
        let handler = handler.ok_or_else(Problem::internal)?;
        Ok(Self {
            caller: handler.caller(request.extensions().get::<Access>()),
            correlation: trace.unwrap_or_else(Uuid::new_v4),
            key,
            precondition: precondition(request)?,
        })
    }

    /// The envelope of the request's command.
    pub(super) fn envelope(self, command: Command) -> Envelope {
        let envelope = Envelope::new(command).sent_by(self.caller);
        let envelope = envelope.in_conversation(self.correlation);
        envelope.under_key(self.key).provided(self.precondition)
    }
}

impl FromRequest for RequestContext {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(Self::of(request))
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

/// The second part of `version-trace-parent-flags`: 32 hexadecimal digits in lower case, not all of them 0.
fn trace_id(parent: &str) -> Option<Uuid> {
    let mut parts = parent.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    if !is_hex(version, 2) || version == "ff" || !is_hex(trace, 32) {
        return None;
    }
    if !is_hex(parts.next()?, 16) || !is_hex(parts.next()?, 2) {
        return None;
    }
    Uuid::try_parse(trace).ok().filter(|trace| !trace.is_nil())
}

fn is_hex(text: &str, length: usize) -> bool {
    let is_digit = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    text.len() == length && text.bytes().all(is_digit)
}

#[cfg(test)]
mod tests {
    use super::trace_id;
    use uuid::Uuid;

    #[test]
    fn only_a_valid_traceparent_names_a_conversation() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        let valid = format!("00-{trace}-00f067aa0ba902b7-01");
        assert_eq!(trace_id(&valid), Uuid::try_parse(trace).ok());
        for invalid in [
            String::new(),
            "ada".to_owned(),
            trace.to_owned(),
            format!("00-{trace}"),
            format!("ff-{trace}-00f067aa0ba902b7-01"),
            format!("00-{}-00f067aa0ba902b7-01", "0".repeat(32)),
            valid.to_uppercase(),
            format!("00-{trace}-00f067aa0ba902b7-zz"),
        ] {
            assert_eq!(trace_id(&invalid), None, "{invalid}");
        }
    }
}
