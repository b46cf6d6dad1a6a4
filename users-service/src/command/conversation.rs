//! The conversation that a request belongs to.

use actix_web::{FromRequest, HttpRequest, dev::Payload};
use std::convert::Infallible;
use std::future::{Ready, ready};
use uuid::Uuid;

/// The trace id of the request's `traceparent` (W3C Trace Context), or a new id if the request has no valid one.
///
/// No other header is used, because a free text of the caller could hold personal data and would be stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Conversation(pub(super) Uuid);

impl FromRequest for Conversation {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let parent = request.headers().get("traceparent");
        let trace = parent.and_then(|parent| trace_id(parent.to_str().ok()?));
        ready(Ok(Self(trace.unwrap_or_else(Uuid::new_v4))))
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
