//! Extractors for bodies, queries and ids. Their input is bounded, and a refusal names the wrong field.
//!
//! Invariant: a refusal names fields and rules but never repeats a value.

use std::{future::Future, pin::Pin, time::Duration};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::Payload,
    http::header::{self, HeaderName, HeaderValue},
    web::{Bytes, Payload as Body},
};
use futures::future::{Ready, ready};
use serde::de::DeserializeOwned;

use crate::{Fields, Problem, problem_types};

/// The media type of a [`Json`] body.
const JSON: &str = "application/json";

/// The maximum size of a body, in bytes.
pub const BODY_LIMIT: usize = 16 * 1024;

/// How long a whole body may take to arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyWithin(pub(crate) Duration);

impl Default for BodyWithin {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// A body that is a JSON object, `application/json`. It is refused with 415 for another media type or any content coding,
/// with 408 if it does not arrive within 10 s, with 413 above [`BODY_LIMIT`], with 400 if it is not JSON in UTF-8, and with
/// 422 if it is not an object.
#[derive(Debug)]
pub struct Json(pub Fields);

/// The body of a PATCH: a JSON merge patch (RFC 7396), `application/merge-patch+json` or `application/json`. Otherwise like
/// [`Json`].
#[derive(Debug)]
pub struct MergePatch(pub Fields);

/// The header that lists the media types of a PATCH (RFC 5789 §3.1).
pub(crate) const ACCEPT_PATCH: HeaderName = HeaderName::from_static("accept-patch");

/// The media types of a [`MergePatch`].
pub(crate) const PATCH_TYPES: &str = "application/merge-patch+json, application/json";

/// The query string. It is refused with 422 if a parameter is missing or of the wrong type. (A query that cannot be
/// percent-decoded is refused earlier, with 400 on every route.)
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The path segment `{id}` as a decimal number without sign or leading zeros; any other segment is answered 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathId(pub u64);

type Reading<T> = Pin<Box<dyn Future<Output = Result<T, Problem>>>>;

impl FromRequest for Json {
    type Error = Problem;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let fields = fields(request, payload, (header::ACCEPT, JSON));
        Box::pin(async move { fields.await.map(Self) })
    }
}

impl FromRequest for MergePatch {
    type Error = Problem;
    type Future = Reading<Self>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let fields = fields(request, payload, (ACCEPT_PATCH, PATCH_TYPES));
        Box::pin(async move { fields.await.map(Self) })
    }
}

/// Reads a body of one of these media types. A refusal lists them in this header.
fn fields(
    request: &HttpRequest,
    payload: &mut Payload,
    media_types: (HeaderName, &'static str),
) -> impl Future<Output = Result<Fields, Problem>> + use<> {
    let headers = require_media_type(request, media_types).and(require_plain(request));
    let bound = request.app_data::<BodyWithin>().copied();
    let body = Body::from_request(request, payload);
    async move {
        headers?;
        let body = body.await.map_err(|_| broken_off())?;
        Fields::parse(&whole(body, bound.unwrap_or_default()).await?)
    }
}

/// Reads a whole body, bounded in size and time.
async fn whole(body: Body, BodyWithin(bound): BodyWithin) -> Result<Bytes, Problem> {
    let whole = tokio::time::timeout(bound, body.to_bytes_limited(BODY_LIMIT)).await;
    whole
        .map_err(|_| too_slow(bound))?
        .map_err(|_| too_large())?
        .map_err(|_| broken_off())
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()).map(Self))
    }
}

impl FromRequest for PathId {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(decimal);
        ready(id.map(Self).ok_or_else(Problem::not_found))
    }
}

/// Fails unless the body has one of these media types. Parameters such as `charset` have no meaning for JSON.
fn require_media_type(
    request: &HttpRequest,
    (header, accepted): (HeaderName, &'static str),
) -> Result<(), Problem> {
    let given = request.headers().get_all(header::CONTENT_TYPE).count();
    let media_type = request.mime_type().ok().flatten();
    let is_accepted = |essence: &str| accepted.split(", ").any(|one| one == essence);
    if given == 1 && media_type.is_some_and(|given| is_accepted(given.essence_str())) {
        return Ok(());
    }
    let detail = format!("the body must be of one of these media types: {accepted}");
    let problem = Problem::new(problem_types::UNSUPPORTED_MEDIA_TYPE, detail);
    Err(problem.header(header, HeaderValue::from_static(accepted)))
}

/// Fails if the body has a content coding.
fn require_plain(request: &HttpRequest) -> Result<(), Problem> {
    let mut codings = request.headers().get_all(header::CONTENT_ENCODING);
    if codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    let detail = "the body must not have a content coding";
    let problem = Problem::new(problem_types::UNSUPPORTED_CODING, detail);
    Err(problem.header(
        header::ACCEPT_ENCODING,
        HeaderValue::from_static("identity"),
    ))
}

fn too_slow(bound: Duration) -> Problem {
    let detail = format!("the body did not arrive within {bound:?}");
    Problem::new(problem_types::BODY_TOO_SLOW, detail)
}

fn too_large() -> Problem {
    let detail = format!("the body must not exceed {BODY_LIMIT} bytes");
    Problem::new(problem_types::BODY_TOO_LARGE, detail)
}

fn broken_off() -> Problem {
    Problem::new(problem_types::INCOMPLETE_BODY, "the body broke off")
}

fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
        .map_err(|error| wrong_parameter(&error))
}

/// A problem that names the parameter and the rule, taken from the error's path and text. serde's texts are "missing field
/// `x`" and "invalid type: <the value>, expected <the rule>". Only the rule may reach the client.
fn wrong_parameter<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> Problem {
    let text = error.inner().to_string();
    for (prefix, rule) in [
        ("missing field `", "is missing"),
        ("duplicate field `", "is given twice"),
    ] {
        let name = text.strip_prefix(prefix);
        if let Some(name) = name.and_then(|rest| rest.split('`').next()) {
            return refused(name, rule);
        }
    }
    let path = error.path().to_string();
    match text.split_once(", expected ") {
        Some((_, rule)) => refused(&path, &format!("must be {rule}")),
        None => refused(&path, &format!("is not valid: {text}")),
    }
}

fn refused(parameter: &str, rule: &str) -> Problem {
    Problem::invalid(parameter, format!("`{parameter}` {rule}"))
}

#[cfg(test)]
mod tests {
    use actix_web::{error::PayloadError, test::TestRequest};
    use futures::{Stream, StreamExt as _, stream};

    use super::*;

    async fn extract(
        body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
    ) -> Result<Json, Problem> {
        let request = TestRequest::post()
            .insert_header(("content-type", "application/json"))
            .to_http_request();
        let mut payload = Payload::from(Box::pin(body) as Pin<Box<dyn Stream<Item = _>>>);
        Json::from_request(&request, &mut payload).await
    }

    /// `text`, with `pause` before each byte.
    fn dripping(
        text: &'static str,
        pause: Duration,
    ) -> impl Stream<Item = Result<Bytes, PayloadError>> {
        stream::iter(text.bytes()).then(move |byte| async move {
            tokio::time::sleep(pause).await;
            Ok(Bytes::copy_from_slice(&[byte]))
        })
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_drips_or_never_comes_is_ended() {
        let too_slow = too_slow(Duration::from_secs(10));
        let drip = extract(dripping("{           }", Duration::from_secs(5))).await;
        assert_eq!(drip.unwrap_err(), too_slow);
        let never = extract(stream::pending()).await;
        assert_eq!(never.unwrap_err(), too_slow);
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_may_use_its_time() {
        let slow = extract(dripping("{}", Duration::from_secs(4))).await;
        assert!(slow.unwrap().0.finish(Some(())).is_ok());
    }
}
