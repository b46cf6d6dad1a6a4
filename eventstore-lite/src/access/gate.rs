//! The gate before every route. It identifies the caller and lets the request pass, or refuses it.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::verifier::{Unverified, Verifier};
use super::{Caller, cross_site, is_for_anybody};
use crate::metrics::Metrics;
use crate::users::{Role, Users};

/// The policy for callers.
#[derive(Clone)]
pub(crate) struct Gate(GatePolicy);

#[derive(Clone)]
enum GatePolicy {
    /// Everybody may call.
    Open,
    /// Callers need the password of a user.
    Guarded(Arc<Verifier>),
}

/// The gate with what it needs for each request.
#[derive(Clone)]
pub(crate) struct GateState {
    pub(crate) gate: Gate,
    pub(crate) metrics: Arc<Metrics>,
    /// The advertised name or address of the server.
    pub(crate) host: Arc<str>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// The request has no credentials.
    Anonymous,
    /// The credentials are not those of a user.
    Unknown,
    /// The user may not do this.
    Forbidden,
    /// Too many passwords are being checked.
    Busy,
}

impl From<Unverified> for Refusal {
    fn from(unverified: Unverified) -> Self {
        match unverified {
            Unverified::Wrong => Self::Unknown,
            Unverified::Busy => Self::Busy,
        }
    }
}

impl GateState {
    /// The name for which the page is served, if nothing else protects it.
    fn page_name(&self) -> Option<&str> {
        matches!(self.gate.0, GatePolicy::Open).then_some(&*self.host)
    }
}

impl Gate {
    pub(crate) fn open() -> Self {
        Self(GatePolicy::Open)
    }

    pub(crate) fn guarded(users: Users) -> Self {
        Self(GatePolicy::Guarded(Arc::new(Verifier::new(users))))
    }

    /// Identifies the caller. On paths that need no credentials, a request without them gets the lowest role.
    async fn judge(&self, path: &str, headers: &HeaderMap) -> Result<Caller, Refusal> {
        let GatePolicy::Guarded(verifier) = &self.0 else {
            return Ok(Caller::Anyone);
        };
        let Some(credentials) = headers.get(AUTHORIZATION) else {
            return if is_for_anybody(path) {
                Ok(Caller::User(Role::User))
            } else {
                Err(Refusal::Anonymous)
            };
        };
        let (name, password) = parse(credentials).ok_or(Refusal::Unknown)?;
        let role = verifier.role(&name, &password).await?;
        let caller = Caller::User(role);
        if caller.may_call(path) {
            Ok(caller)
        } else {
            Err(Refusal::Forbidden)
        }
    }
}

/// Parses `Basic` and the base64 of `name:password`.
fn parse(credentials: &HeaderValue) -> Option<(String, String)> {
    let (scheme, encoded) = credentials.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("Basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(encoded.trim()).ok()?;
    let decoded = String::from_utf8(decoded).ok()?;
    let (name, password) = decoded.split_once(':')?;
    Some((name.to_owned(), password.to_owned()))
}

/// Lets a request pass with its [`Caller`], or answers it.
pub(crate) async fn guard(
    State(state): State<GateState>,
    mut request: Request,
    next: Next,
) -> Response {
    state.metrics.call_received();
    if let Some(answer) = cross_site::refusal(&request, state.page_name()) {
        state.metrics.call_refused();
        return answer;
    }
    let judged = state
        .gate
        .judge(request.uri().path(), request.headers())
        .await;
    match judged {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(refusal) => {
            state.metrics.call_refused();
            tracing::debug!(?refusal, "a call was refused");
            refusal.answer(request.headers())
        }
    }
}

impl Refusal {
    /// The refusal, in the protocol of the request.
    fn answer(self, headers: &HeaderMap) -> Response {
        let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        if content_type.is_some_and(|value| value.starts_with(b"application/grpc")) {
            return self.status().into_http();
        }
        match self {
            Self::Anonymous | Self::Unknown => {
                let challenge = [(WWW_AUTHENTICATE, "Basic realm=\"eventstore-lite\"")];
                (StatusCode::UNAUTHORIZED, challenge, self.text()).into_response()
            }
            Self::Forbidden => (StatusCode::FORBIDDEN, self.text()).into_response(),
            Self::Busy => (StatusCode::TOO_MANY_REQUESTS, self.text()).into_response(),
        }
    }

    fn status(self) -> Status {
        match self {
            Self::Unknown => Status::unauthenticated(self.text()),
            Self::Anonymous | Self::Forbidden => access_denied(self.text()),
            Self::Busy => Status::resource_exhausted(self.text()),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::Anonymous => "Access denied: this needs the name and password of a user.",
            Self::Unknown => "The name or the password is wrong.",
            Self::Forbidden => "Access denied: this needs a user with the role ops or admin.",
            Self::Busy => "Too many passwords are being checked: try again.",
        }
    }
}

/// A permission error with the trailer of the real server.
pub(crate) fn access_denied(message: &str) -> Status {
    let mut trailers = MetadataMap::new();
    trailers.insert("exception", MetadataValue::from_static("access-denied"));
    Status::with_metadata(Code::PermissionDenied, message, trailers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const READ: &str = "/event_store.client.streams.Streams/Read";
    const USER: Caller = Caller::User(Role::User);
    const SHUTDOWN: &str = "/event_store.client.operations.Operations/Shutdown";

    async fn judged(path: &str, credentials: Option<&str>) -> Result<Caller, Refusal> {
        let mut users = Users::default();
        users.add("ada", Role::User, "pass:word").unwrap();
        let mut headers = HeaderMap::new();
        if let Some(credentials) = credentials {
            headers.insert(AUTHORIZATION, credentials.parse().unwrap());
        }
        Gate::guarded(users).judge(path, &headers).await
    }

    fn basic(text: &str) -> String {
        format!("Basic {}", BASE64_STANDARD.encode(text))
    }

    #[tokio::test]
    async fn credentials_determine_the_caller() {
        let ada = basic("ada:pass:word");
        assert_eq!(judged(READ, Some(&ada)).await, Ok(USER));
        assert_eq!(judged(READ, None).await, Err(Refusal::Anonymous));
        assert_eq!(judged("/health/live", None).await, Ok(USER));
        assert_eq!(judged("/metrics", None).await, Err(Refusal::Anonymous));
        assert_eq!(judged(SHUTDOWN, Some(&ada)).await, Err(Refusal::Forbidden));
        for wrong in [
            basic("ada:pass"),
            basic("ada"),
            basic(""),
            "Basic".to_owned(),
            "Basic %%%".to_owned(),
            "Bearer x".to_owned(),
        ] {
            assert_eq!(
                judged(READ, Some(&wrong)).await,
                Err(Refusal::Unknown),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_refusal_speaks_the_protocol_of_the_request() {
        let mut headers = HeaderMap::new();
        assert_eq!(
            Refusal::Unknown.answer(&headers).status(),
            StatusCode::UNAUTHORIZED
        );
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let answer = Refusal::Anonymous.answer(&headers);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["grpc-status"], "7");
        assert_eq!(answer.headers()["exception"], "access-denied");
    }
}
