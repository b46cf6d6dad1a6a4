//! Extractors for bodies, queries and ids. Their input is bounded, and a refusal names the wrong field.
//!
//! Invariant: a refusal names fields and rules but never repeats a value.

use std::{borrow::Cow, future::Future, pin::Pin, time::Duration};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest,
    dev::Payload,
    http::{StatusCode, header},
    web::{Bytes, Payload as Body},
};
use futures::future::{Ready, ready};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Problem;

/// The maximum size of a body, in bytes.
pub const BODY_LIMIT: usize = 64 * 1024;

/// How long a whole body may take to arrive.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BodyWithin(pub(crate) Duration);

impl Default for BodyWithin {
    fn default() -> Self {
        Self(Duration::from_secs(10))
    }
}

/// A body that is a JSON object. It is refused with 415 for another media type or any content coding, with 408 if it does
/// not arrive within 10 s, with 413 above [`BODY_LIMIT`], and with 400 if it is not JSON or not UTF-8. It is refused with
/// 422 if it is not an object, or if a member is missing, unknown (where `T` denies that) or of the wrong type.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The query string. It is refused with 422 if a parameter is missing or of the wrong type. (A query that cannot be
/// percent-decoded is refused earlier, with 400 on every route.)
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The path segment `{id}` as a decimal number without sign or leading zeros; any other segment is answered 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathId(pub u64);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let plain_json = require_plain_json(request);
        let bound = request.app_data::<BodyWithin>().copied();
        let body = Body::from_request(request, payload);
        Box::pin(async move {
            plain_json?;
            let body = body.await.map_err(|_| broken_off())?;
            parse_json(&whole(body, bound.unwrap_or_default()).await?).map(Self)
        })
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

/// Fails unless the headers declare the body as JSON without a content coding.
fn require_plain_json(request: &HttpRequest) -> Result<(), Problem> {
    let refused = |detail| Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, detail));
    if !is_json(request) {
        return refused("the body must be application/json");
    }
    let mut codings = request.headers().get_all(header::CONTENT_ENCODING);
    if !codings.all(|coding| coding.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return refused("the body must not have a content coding");
    }
    Ok(())
}

fn is_json(request: &HttpRequest) -> bool {
    let media_type = request.mime_type().ok().flatten();
    media_type.is_some_and(|media| media.type_() == "application" && media.subtype() == "json")
}

fn too_slow(bound: Duration) -> Problem {
    let detail = format!("the body did not arrive within {bound:?}");
    Problem::new(StatusCode::REQUEST_TIMEOUT, detail)
}

fn too_large() -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("the body must not exceed {BODY_LIMIT} bytes"),
    )
}

fn broken_off() -> Problem {
    Problem::bad_request("the body broke off")
}

fn decimal(text: &str) -> Option<u64> {
    let canonical = text == "0" || !text.starts_with(['0', '+']);
    text.parse().ok().filter(|_| canonical)
}

fn parse_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    // The parser checks the bytes of a string only if it keeps the string, not in an ignored member.
    if std::str::from_utf8(bytes).is_err() {
        return Err(Problem::bad_request("the body is not UTF-8"));
    }
    // A derived Deserialize would accept an array for a struct, so only objects are passed on.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(well_formed(bytes).err().unwrap_or_else(not_an_object));
    }
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize(&mut json) {
        Ok(value) => json.end().map(|()| value).map_err(|_| malformed()),
        Err(error) if error.inner().is_data() => {
            well_formed(bytes)?;
            Err(wrong_field(&error))
        }
        Err(_) => Err(malformed()),
    }
}

fn well_formed(bytes: &[u8]) -> Result<(), Problem> {
    match serde_json::from_slice::<IgnoredAny>(bytes) {
        Ok(_) => Ok(()),
        Err(_) => Err(malformed()),
    }
}

fn malformed() -> Problem {
    Problem::bad_request("the body is not well-formed JSON")
}

fn not_an_object() -> Problem {
    Problem::new(
        StatusCode::UNPROCESSABLE_ENTITY,
        "the body must be a JSON object",
    )
}

fn parse_query<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = form_urlencoded::parse(query.as_bytes());
    serde_path_to_error::deserialize(serde_urlencoded::Deserializer::new(pairs))
        .map_err(|error| wrong_field(&error))
}

/// A problem that names the field and the rule, taken from the error's path and text. serde's texts are "missing field
/// `x`" (with the path of the parent) and "invalid type: <the value>, expected <the rule>". Only the rule may reach the
/// client.
fn wrong_field<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> Problem {
    let text = error.inner().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let path = error.path().to_string();
    for (prefix, rule) in [
        ("missing field `", "is missing"),
        ("duplicate field `", "is given twice"),
        ("unknown field `", "is unknown"),
    ] {
        if let Some(name) = text
            .strip_prefix(prefix)
            .and_then(|rest| rest.split('`').next())
        {
            return refused(within(&path, name), rule);
        }
    }
    match text.split_once(", expected ") {
        Some((_, rule)) => refused(path, &format!("must be {rule}")),
        None => refused(path, &format!("is not valid: {text}")),
    }
}

fn within(parent: &str, name: &str) -> String {
    match parent {
        "." | "?" => name.to_owned(),
        parent if parent.ends_with(name) => parent.to_owned(),
        parent => format!("{parent}.{name}"),
    }
}

fn refused(field: String, rule: &str) -> Problem {
    let detail: Cow<'static, str> = format!("`{field}` {rule}").into();
    Problem::invalid(field, detail)
}

#[cfg(test)]
mod tests {
    use actix_web::{error::PayloadError, test::TestRequest};
    use futures::{Stream, StreamExt as _, stream};
    use serde_json::Value;

    use super::*;

    async fn extract(
        body: impl Stream<Item = Result<Bytes, PayloadError>> + 'static,
    ) -> Result<Json<Value>, Problem> {
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
        assert_eq!(slow.unwrap().0, serde_json::json!({}));
    }
}
