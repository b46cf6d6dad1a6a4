//! What comes in: bodies, queries and ids, each bounded, and each refused with the field that is to blame.
//!
//! Invariant: a refusal names fields and rules but repeats no value.

use std::{borrow::Cow, future::Future, pin::Pin};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest, dev::Payload, http::StatusCode,
    web::Payload as Body,
};
use futures::future::{Ready, ready};
use serde::de::{DeserializeOwned, IgnoredAny};

use crate::Problem;

/// The most bytes that a body may have.
pub const BODY_LIMIT: usize = 64 * 1024;

/// A body that is a JSON object: 415 for another media type, 413 over [`BODY_LIMIT`], 400 when it is no JSON,
/// 422 when it is no object or a member is missing or of the wrong type.
#[derive(Debug)]
pub struct Json<T>(pub T);

/// The query string: 422 when a parameter is missing or of the wrong type. (One that cannot be percent-decoded does not
/// come so far: it is a 400 on every route.)
#[derive(Debug)]
pub struct Query<T>(pub T);

/// The path segment `{id}` as a decimal number without sign or leading zeros; anything else is a 404.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Id(pub u64);

impl<T: DeserializeOwned + 'static> FromRequest for Json<T> {
    type Error = Problem;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Problem>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let json = is_json(request);
        let body = Body::from_request(request, payload);
        Box::pin(async move {
            if !json {
                return Err(Problem::new(
                    StatusCode::UNSUPPORTED_MEDIA_TYPE,
                    "the body must be application/json",
                ));
            }
            let body = body.await.map_err(|_| broken_off())?;
            let bytes = body
                .to_bytes_limited(BODY_LIMIT)
                .await
                .map_err(|_| too_large())?
                .map_err(|_| broken_off())?;
            parse_json(&bytes).map(Self)
        })
    }
}

impl<T: DeserializeOwned> FromRequest for Query<T> {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(parse_query(request.query_string()).map(Self))
    }
}

impl FromRequest for Id {
    type Error = Problem;
    type Future = Ready<Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let id = request.match_info().get("id").and_then(decimal);
        ready(id.map(Self).ok_or_else(Problem::not_found))
    }
}

fn is_json(request: &HttpRequest) -> bool {
    let media_type = request.mime_type().ok().flatten();
    media_type.is_some_and(|media| media.type_() == "application" && media.subtype() == "json")
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
    // A derived Deserialize would take an array for a struct, so only an object goes that far.
    if !bytes.trim_ascii_start().starts_with(b"{") {
        return Err(well_formed(bytes).err().unwrap_or_else(no_object));
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

fn no_object() -> Problem {
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

/// The field and the rule, from the error's path and text. serde's texts are "missing field `x`" (whose path is that
/// of the parent) and "invalid type: <the value>, expected <the rule>", of which only the rule may go on.
fn wrong_field<E: std::fmt::Display>(error: &serde_path_to_error::Error<E>) -> Problem {
    let text = error.inner().to_string();
    let text = text.split(" at line ").next().unwrap_or_default();
    let path = error.path().to_string();
    for (told, rule) in [
        ("missing field `", "is missing"),
        ("duplicate field `", "is there twice"),
        ("unknown field `", "is unknown"),
    ] {
        if let Some(name) = text
            .strip_prefix(told)
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
