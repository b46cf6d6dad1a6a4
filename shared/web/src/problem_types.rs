//! The problem types of every service. A service that needs more declares them in a list of its own.

use actix_web::http::StatusCode;

use crate::ProblemType;

crate::problem_types! {
    MALFORMED_REQUEST = BAD_REQUEST, "malformed-request", "The request is malformed";
    MALFORMED_BODY = BAD_REQUEST, "malformed-body", "The body is not well-formed JSON in UTF-8";
    INCOMPLETE_BODY = BAD_REQUEST, "incomplete-body", "The body broke off";
    MALFORMED_QUERY = BAD_REQUEST, "malformed-query", "The query cannot be percent-decoded";
    UNAUTHENTICATED = UNAUTHORIZED, "unauthenticated", "The caller shows no valid access token";
    FORBIDDEN = FORBIDDEN, "forbidden", "The access token lacks the scope that the request needs";
    NOT_FOUND = NOT_FOUND, "not-found", "There is nothing here, or not any more";
    METHOD_NOT_ALLOWED = METHOD_NOT_ALLOWED, "method-not-allowed", "The method is not allowed here";
    NOT_ACCEPTABLE = NOT_ACCEPTABLE, "not-acceptable", "No media type that the client accepts is available";
    BODY_TOO_SLOW = REQUEST_TIMEOUT, "body-too-slow", "The body did not arrive in time";
    BODY_TOO_LARGE = PAYLOAD_TOO_LARGE, "body-too-large", "The body is too large";
    TARGET_TOO_LONG = URI_TOO_LONG, "target-too-long", "Path and query are too long";
    UNSUPPORTED_MEDIA_TYPE = UNSUPPORTED_MEDIA_TYPE, "unsupported-media-type", "The media type of the body is not supported";
    UNSUPPORTED_CODING = UNSUPPORTED_MEDIA_TYPE, "unsupported-content-coding", "The content coding of the body is not supported";
    INVALID_INPUT = UNPROCESSABLE_ENTITY, "invalid-input", "Fields or parameters break a rule";
    INTERNAL_ERROR = INTERNAL_SERVER_ERROR, "internal-error", "The service failed to answer";
    NOT_IMPLEMENTED = NOT_IMPLEMENTED, "not-implemented", "The method is unknown to this service";
    UNAVAILABLE = SERVICE_UNAVAILABLE, "unavailable", "The service is temporarily unavailable";
}

/// The type of an error that the framework answers with this status.
pub(crate) fn of_status(status: StatusCode) -> ProblemType {
    let known = ALL.iter().find(|known| known.status == status);
    known.copied().unwrap_or(INTERNAL_ERROR)
}
