//! The media types of an answer with ids, and the choice between them by the request's `Accept`.

use actix_web::{
    HttpRequest,
    http::header::{Accept, ContentType, Header as _, Quality},
    mime::Mime,
};
use web::{Problem, problem_types};

/// A form in which ids are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum MediaType {
    /// `{"data":["1509466340062097408",…]}`
    Json,
    /// One id a line.
    Text,
}

impl MediaType {
    /// The form that the request likes best, JSON if it likes both alike. 406 if it accepts neither.
    pub(crate) fn accepted_by(request: &HttpRequest) -> Result<Self, Problem> {
        let accept = Accept::parse(request).unwrap_or_else(|_| Accept(Vec::new()));
        if accept.is_empty() {
            return Ok(Self::Json);
        }
        let [json, text] = [Self::Json, Self::Text].map(|form| quality(&accept, form.essence()));
        match (json.max(text) > Quality::ZERO, text > json) {
            (true, false) => Ok(Self::Json),
            (true, true) => Ok(Self::Text),
            (false, _) => Err(Problem::new(
                problem_types::NOT_ACCEPTABLE,
                "the answer can be application/json or text/plain",
            )),
        }
    }

    pub(crate) fn content_type(self) -> ContentType {
        match self {
            Self::Json => ContentType::json(),
            Self::Text => ContentType::plaintext(),
        }
    }

    /// Type and subtype.
    fn essence(self) -> (&'static str, &'static str) {
        match self {
            Self::Json => ("application", "json"),
            Self::Text => ("text", "plain"),
        }
    }
}

/// The quality that the most specific matching range gives to a media type; 0 if none matches.
fn quality(accept: &Accept, (r#type, subtype): (&str, &str)) -> Quality {
    let matches = |range: &Mime| match (range.type_().as_str(), range.subtype().as_str()) {
        ("*", "*") => Some(0),
        (range_type, "*") => (range_type == r#type).then_some(1),
        range => (range == (r#type, subtype)).then_some(2),
    };
    let matching = accept
        .iter()
        .filter_map(|range| Some((matches(&range.item)?, range.quality)));
    matching.max().map_or(Quality::ZERO, |(_, quality)| quality)
}

#[cfg(test)]
mod tests {
    use actix_web::test::TestRequest;

    use super::*;

    fn accepted(accept: Option<&str>) -> Option<MediaType> {
        let request = TestRequest::get();
        let request = match accept {
            Some(accept) => request.insert_header(("accept", accept)),
            None => request,
        };
        MediaType::accepted_by(&request.to_http_request()).ok()
    }

    #[test]
    fn the_form_that_the_request_likes_best_is_chosen() {
        for (accept, form) in [
            (None, Some(MediaType::Json)),
            (Some(""), Some(MediaType::Json)),
            (Some("*/*"), Some(MediaType::Json)),
            (Some("application/*"), Some(MediaType::Json)),
            (Some("text/plain"), Some(MediaType::Text)),
            (Some("text/*"), Some(MediaType::Text)),
            (Some("TEXT/Plain;charset=utf-8"), Some(MediaType::Text)),
            (Some("text/plain, application/json"), Some(MediaType::Json)),
            (Some("text/plain, */*;q=0.1"), Some(MediaType::Text)),
            (
                Some("application/json;q=0.5, text/plain"),
                Some(MediaType::Text),
            ),
            (Some("*/*, application/json;q=0"), Some(MediaType::Text)),
            (Some("text/html"), None),
            (Some("text/plain;q=0"), None),
            (Some("*/*;q=0"), None),
        ] {
            assert_eq!(accepted(accept), form, "{accept:?}");
        }
    }
}
