//! One wrong part of a request's input, as RFC 9457 shows it in section 3.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

/// What a URI fragment may contain unencoded (RFC 3986 §3.5), without characters that are rare in names.
const FRAGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A wrong member of the body or a wrong parameter of the query. It names the place and the rule but repeats no value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct InputError {
    #[serde(flatten)]
    place: Place,
    detail: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Place {
    /// A JSON pointer into the body, as a URI fragment (RFC 6901 §6).
    Pointer(String),
    Parameter(String),
}

impl InputError {
    /// `{"pointer":"#/username","detail":"`username` is missing"}`: this member of the body breaks this rule.
    #[must_use]
    pub fn member(name: &str, rule: &str) -> Self {
        let token = name.replace('~', "~0").replace('/', "~1");
        Self {
            place: Place::Pointer(format!("#/{}", utf8_percent_encode(&token, FRAGMENT))),
            detail: format!("`{name}` {rule}"),
        }
    }

    /// `{"pointer":"#","detail":"…"}`: the body as a whole is wrong.
    #[must_use]
    pub fn body(detail: &str) -> Self {
        Self {
            place: Place::Pointer("#".to_owned()),
            detail: detail.to_owned(),
        }
    }

    /// `{"parameter":"limit","detail":"…"}`: a parameter of the query is wrong. The detail is a whole sentence.
    pub fn parameter(name: &str, detail: impl Into<String>) -> Self {
        Self {
            place: Place::Parameter(name.to_owned()),
            detail: detail.into(),
        }
    }

    /// The sentence that names place and rule.
    #[must_use]
    pub fn detail(&self) -> &str {
        &self.detail
    }
}
