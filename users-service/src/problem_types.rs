//! The problem types that only this service has. [`web::problem_types`](mod@web::problem_types) has the others.

web::problem_types! {
    USERNAME_TAKEN = CONFLICT, "username-taken", "Another user has the username";
    ID_USED = CONFLICT, "id-used", "The id belongs, or once belonged, to a user";
    MALFORMED_KEY = BAD_REQUEST, "malformed-idempotency-key", "The idempotency key is malformed";
    MALFORMED_CONDITION = BAD_REQUEST, "malformed-condition", "The header If-Match is malformed";
    GONE = GONE, "gone", "The command was executed before, and its user has been deleted since";
    PRECONDITION_FAILED = PRECONDITION_FAILED, "precondition-failed", "The user has another version than If-Match requires";
    UNKNOWN_POSITION = PRECONDITION_FAILED, "unknown-position", "The last event id is none of this feed, for example because the store was restored";
    UNKNOWN_TOKEN = PRECONDITION_FAILED, "unknown-consistency-token", "The consistency token is none of this service, for example because the store was restored";
    KEY_REUSED = UNPROCESSABLE_ENTITY, "idempotency-key-reused", "The idempotency key was used for another request";
    OVERLOADED = SERVICE_UNAVAILABLE, "overloaded", "Too many requests are worked on at once, and this one was not begun";
    MOVED_ON = CONFLICT, "moved-on", "The stream or the user waits at another event than the request names";
    CONTENDED = CONFLICT, "contended", "Too many other commands changed the same user or name at the same time";
}

/// The answer to one request too many, which a client may repeat after a second.
pub(crate) fn overloaded(detail: &'static str) -> web::Problem {
    web::Problem::new(OVERLOADED, detail).retry_after(1)
}
