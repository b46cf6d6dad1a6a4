//! Refuses requests that a foreign web page can make a browser send to this server. A browser posts plain text
//! without asking the server first. And it sends requests for a foreign host name to this server, if the owner of
//! that name changes its address.

use std::net::IpAddr;

use axum::extract::Request;
use axum::http::header::{CONTENT_TYPE, HOST};
use axum::http::uri::Authority;
use axum::http::{StatusCode, Version};
use axum::response::{IntoResponse, Response};

const METHODS: &str = "/event_store.client.";
const PAGE: &str = "/web";

const NOT_GRPC: (StatusCode, &str) = (
    StatusCode::UNSUPPORTED_MEDIA_TYPE,
    "gRPC requires HTTP/2 and the content type application/grpc.",
);
const FOREIGN_NAME: (StatusCode, &str) = (
    StatusCode::MISDIRECTED_REQUEST,
    "Without passwords the page is served only for localhost, for an IP address, and for the name in \
     --node-host-advertise-as.",
);

/// The answer to such a request, or `None` for others. Without passwords, `own_name` is a host name for which the
/// page is served, in addition to addresses and names that no foreign owner can have.
pub(super) fn refusal(request: &Request, own_name: Option<&str>) -> Option<Response> {
    let path = request.uri().path();
    if path.starts_with(METHODS) && !is_grpc(request) {
        return Some(NOT_GRPC.into_response());
    }
    let own_name = own_name.filter(|_| path.starts_with(PAGE))?;
    let is_ours = host(request).is_none_or(|host| is_local(&host) || host == own_name);
    (!is_ours).then(|| FOREIGN_NAME.into_response())
}

fn is_grpc(request: &Request) -> bool {
    let content_type = request.headers().get(CONTENT_TYPE);
    request.version() == Version::HTTP_2
        && content_type.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"))
}

fn host(request: &Request) -> Option<String> {
    let named = request.uri().authority().cloned().or_else(|| {
        let header = request.headers().get(HOST)?;
        Authority::try_from(header.as_bytes()).ok()
    });
    Some(named?.host().to_lowercase())
}

fn is_local(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    !host.contains('.') || host.ends_with(".localhost") || address.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    const APPEND: &str = "/event_store.client.streams.Streams/Append";

    fn status(request: axum::http::request::Builder, own_name: Option<&str>) -> Option<u16> {
        let request = request.body(Body::empty()).unwrap();
        refusal(&request, own_name).map(|answer| answer.status().as_u16())
    }

    #[test]
    fn a_request_that_a_browser_sends_without_asking_is_refused() {
        for (version, content_type, answered) in [
            (Version::HTTP_2, "application/grpc", None),
            (Version::HTTP_2, "application/grpc+proto", None),
            (Version::HTTP_2, "text/plain", Some(415)),
            (Version::HTTP_11, "text/plain", Some(415)),
            (Version::HTTP_11, "application/grpc", Some(415)),
        ] {
            for own_name in [None, Some("store")] {
                let request = Request::post(APPEND)
                    .version(version)
                    .header(CONTENT_TYPE, content_type);
                let found = status(request, own_name);
                assert_eq!(found, answered, "{version:?} {content_type}");
            }
        }
        assert_eq!(
            status(Request::post(APPEND).version(Version::HTTP_2), None),
            Some(415)
        );
    }

    #[test]
    fn the_page_is_not_served_for_a_foreign_name_that_leads_here() {
        for (host, answered) in [
            ("127.0.0.1:2113", None),
            ("[::1]:2113", None),
            ("localhost:2113", None),
            ("a.localhost", None),
            ("eventstore:2113", None),
            ("Store.Example:2113", None),
            ("elsewhere.example:2113", Some(421)),
            ("127.0.0.1.elsewhere.example", Some(421)),
        ] {
            let request = |path: &str| Request::get(path).header(HOST, host);
            let own_name = Some("store.example");
            assert_eq!(
                status(request("/web/api/streams"), own_name),
                answered,
                "{host}"
            );
            assert_eq!(status(request("/web/api/streams"), None), None, "{host}");
            assert_eq!(status(request("/health/live"), own_name), None, "{host}");
        }
        let named_in_the_uri = Request::get("http://elsewhere.example/web");
        assert_eq!(status(named_in_the_uri, Some("store.example")), Some(421));
    }
}
