//! The one format of error answers: RFC 9457, with the `message` that clients of the original service read.

use std::{borrow::Cow, fmt};

use actix_web::{
    HttpResponse, HttpResponseBuilder, ResponseError,
    http::{
        StatusCode,
        header::{self, HeaderName, HeaderValue},
    },
};
use serde::Serialize;
use serde_json::Value;

use crate::{InputError, ProblemType, problem_types};

pub(crate) const MEDIA_TYPE: &str = "application/problem+json";

/// An error answer. Its text says what is wrong and never repeats the input, so it holds no personal data.
///
/// `{"type":"urn:problem-type:invalid-input","title":"…","status":422,"detail":"…","message":"…","errors":[…]}`,
/// where `message` repeats `detail`, and `errors` is present if parts of the input are wrong: it lists all of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    kind: ProblemType,
    detail: Cow<'static, str>,
    errors: Vec<InputError>,
    headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this type; `detail` is a sentence for the caller.
    pub fn new(kind: ProblemType, detail: impl Into<Cow<'static, str>>) -> Self {
        Self {
            kind,
            detail: detail.into(),
            errors: Vec::new(),
            headers: Vec::new(),
        }
    }

    /// 404: the resource does not exist, or not any more.
    #[must_use]
    pub fn not_found() -> Self {
        Self::new(problem_types::NOT_FOUND, "there is nothing here")
    }

    /// 422: the request is well-formed, but this parameter of the query breaks a rule.
    pub fn invalid(parameter: &str, detail: impl Into<String>) -> Self {
        Self::invalid_input(vec![InputError::parameter(parameter, detail)])
    }

    /// 422: the request is well-formed, but these parts of its input break rules.
    #[must_use]
    pub fn invalid_input(errors: Vec<InputError>) -> Self {
        let details: Vec<_> = errors.iter().map(InputError::detail).collect();
        let detail = details.join("; ");
        Self {
            errors,
            ..Self::new(problem_types::INVALID_INPUT, detail)
        }
    }

    /// 503: the same request may succeed later. The header `Retry-After` is set to `retry_after` seconds.
    pub fn unavailable(detail: impl Into<Cow<'static, str>>, retry_after: u64) -> Self {
        Self::new(problem_types::UNAVAILABLE, detail).retry_after(retry_after)
    }

    /// 500: a fault of the service. Its cause is in the log, not in the answer.
    #[must_use]
    pub fn internal() -> Self {
        let detail = "the service failed to answer";
        Self::new(problem_types::INTERNAL_ERROR, detail)
    }

    /// Sets the header `Retry-After` to this many seconds.
    #[must_use]
    pub fn retry_after(self, seconds: u64) -> Self {
        self.header(header::RETRY_AFTER, seconds.into())
    }

    /// Adds a header to the answer.
    #[must_use]
    pub fn header(mut self, name: HeaderName, value: HeaderValue) -> Self {
        self.headers.push((name, value));
        self
    }

    /// The status of the answer.
    #[must_use]
    pub fn status(&self) -> StatusCode {
        self.kind.status
    }

    /// The body of the answer, for other places than an answer.
    ///
    /// # Panics
    /// Never, because a struct of text and numbers serializes.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::to_value(self.content()).expect("a struct of text and numbers serializes")
    }

    pub(crate) fn body(&self) -> Vec<u8> {
        serde_json::to_vec(&self.content()).expect("a struct of text and numbers serializes")
    }

    fn content(&self) -> Body<'_> {
        Body {
            r#type: self.kind.uri,
            title: self.kind.title,
            status: self.kind.status.as_u16(),
            detail: &self.detail,
            message: &self.detail,
            errors: &self.errors,
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        self.status()
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = HttpResponseBuilder::new(self.status_code());
        response.content_type(MEDIA_TYPE);
        for header in &self.headers {
            response.append_header(header.clone());
        }
        response.body(self.body())
    }
}

#[derive(Serialize)]
struct Body<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
    message: &'a str,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    errors: &'a [InputError],
}
