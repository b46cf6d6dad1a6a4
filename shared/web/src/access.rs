//! Lets callers in who show a token with a scope of the route (RFC 6750).
//!
//! Invariants: a caller without such a scope is refused before the body is read. A refusal repeats nothing of the token.

use access_tokens::{Access, TokenError, Verifier};
use actix_web::{
    Error, HttpMessage as _, ResponseError as _, Route,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{self, HeaderValue},
    middleware::{Next, from_fn},
    web::Data,
};

use crate::{Problem, problem_types};

/// After this time a caller may try again whose token cannot be verified now, in seconds.
const RETRY_AFTER: u64 = 1;

/// Verifies the tokens of callers, or lets every caller in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gate(pub(crate) Option<Verifier>);

/// The route, for callers with one of these scopes only. If the server authenticates its callers, the handler finds the
/// [`Access`] among the extensions of the request.
#[must_use]
pub fn secured(route: Route, scopes: &'static [&'static str]) -> Route {
    route.wrap(from_fn(move |request, next| {
        authorize(scopes, request, next)
    }))
}

async fn authorize(
    scopes: &'static [&'static str],
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    match admit(scopes, &request).await {
        Ok(None) => {}
        Ok(Some(access)) => drop(request.extensions_mut().insert(access)),
        Err(problem) => return Ok(request.into_response(problem.error_response())),
    }
    Ok(next.call(request).await?.map_into_boxed_body())
}

/// What the caller may do. `None` if every caller is let in.
async fn admit(scopes: &[&str], request: &ServiceRequest) -> Result<Option<Access>, Problem> {
    let gate = request.app_data::<Data<Gate>>();
    let Gate(verifier) = gate.ok_or_else(Problem::internal)?.as_ref();
    let Some(verifier) = verifier else {
        return Ok(None);
    };
    let token = token(request)?;
    let access = verifier.verify(token).await.map_err(|error| match error {
        TokenError::Invalid(_) => {
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_token""#);
            unauthenticated(error.to_string(), challenge)
        }
        TokenError::KeysUnavailable => Problem::unavailable(error.to_string(), RETRY_AFTER),
    })?;
    if scopes.iter().any(|scope| access.has(scope)) {
        Ok(Some(access))
    } else {
        Err(insufficient(scopes))
    }
}

/// The token in the only header `Authorization`.
fn token(request: &ServiceRequest) -> Result<&str, Problem> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let (first, second) = (headers.next(), headers.next());
    let Some(header) = first else {
        let detail = "the request needs a header Authorization: Bearer <token>";
        return Err(unauthenticated(
            detail.to_owned(),
            HeaderValue::from_static("Bearer"),
        ));
    };
    let parts = header.to_str().ok().and_then(|text| text.split_once(' '));
    match (parts, second) {
        (Some((scheme, token)), None) if scheme.eq_ignore_ascii_case("bearer") => {
            Ok(token.trim_start_matches(' '))
        }
        _ => {
            let detail = "the request must have exactly one header Authorization: Bearer <token>";
            let challenge = HeaderValue::from_static(r#"Bearer error="invalid_request""#);
            Err(unauthenticated(detail.to_owned(), challenge))
        }
    }
}

fn unauthenticated(detail: String, challenge: HeaderValue) -> Problem {
    let problem = Problem::new(problem_types::UNAUTHENTICATED, detail);
    problem.header(header::WWW_AUTHENTICATE, challenge)
}

fn insufficient(scopes: &[&str]) -> Problem {
    let detail = format!("the token lacks the scope {}", scopes.join(" or "));
    let problem = Problem::new(problem_types::FORBIDDEN, detail);
    let challenge = format!(
        r#"Bearer error="insufficient_scope", scope="{}""#,
        scopes.join(" ")
    );
    match HeaderValue::try_from(challenge) {
        Ok(challenge) => problem.header(header::WWW_AUTHENTICATE, challenge),
        Err(_) => problem,
    }
}
