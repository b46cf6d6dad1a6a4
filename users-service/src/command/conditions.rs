//! The conditions of a request: `If-Match`, `If-None-Match`, and the `ETag` of an answer (RFC 9110, section 13).

use super::version::{Precondition, Version};
use crate::problem_types;
use actix_web::HttpRequest;
use actix_web::http::header::{ETag, EntityTag, Header as _, IfMatch, IfNoneMatch};
use web::Problem;

/// The `ETag` of a user whose last change has this revision.
pub(super) fn etag(revision: u64) -> ETag {
    ETag(EntityTag::new_strong(
        Version::of(revision).as_str().to_owned(),
    ))
}

/// The condition of `If-Match`. A tag that is weak, malformed or not ours matches no version. `*` matches every user, and a
/// command for a user who does not exist is refused without it.
pub(super) fn precondition(request: &HttpRequest) -> Result<Precondition, Problem> {
    if !request.headers().contains_key(IfMatch::name()) {
        return Ok(Precondition::None);
    }
    match IfMatch::parse(request) {
        Ok(IfMatch::Any) => Ok(Precondition::None),
        Ok(IfMatch::Items(tags)) => {
            let strong = tags.iter().filter(|tag| !tag.weak);
            let versions = strong.map(|tag| Version::from_text(tag.tag()));
            Ok(Precondition::OneOf(versions.collect()))
        }
        Err(_) => Err(Problem::new(
            problem_types::MALFORMED_CONDITION,
            "the header If-Match is malformed",
        )),
    }
}

/// Whether `If-None-Match` says that the caller has this version already.
pub(super) fn is_known(request: &HttpRequest, revision: u64) -> bool {
    if !request.headers().contains_key(IfNoneMatch::name()) {
        return false;
    }
    match IfNoneMatch::parse(request) {
        Ok(IfNoneMatch::Any) => true,
        Ok(IfNoneMatch::Items(tags)) => {
            let current = etag(revision).0;
            tags.iter().any(|tag| tag.weak_eq(&current))
        }
        Err(_) => false,
    }
}
