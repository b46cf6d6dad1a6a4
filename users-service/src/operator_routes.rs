//! The routes of operators, under `/operations`: parked streams and held users.
//!
//! Invariants: every route needs the scope `users:admin`. A decision names the caller: by the pseudonym of an authenticated
//! caller, and otherwise by the name in the body. A request that names an event changes no other event.

mod held_users;
mod parked_streams;

pub use held_users::HeldUsers;
pub use parked_streams::ParkedStreams;

use crate::admission::{Admission, Overload};
use crate::operations::{Decision, OperationError};
use crate::privacy::pseudonym::UsernameSecret;
use crate::{problem_types, scopes};
use access_tokens::Access;
use actix_web::{HttpMessage as _, HttpRequest};
use std::pin::Pin;
use web::{Fields, Problem};

/// Who may use these routes.
const ADMIN: &[&str] = &[scopes::ADMIN];
/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
/// The most requests of operators that are worked on at once.
const REQUESTS: usize = 4;

/// What all routes of operators need.
#[derive(Debug, Clone)]
pub struct Operators {
    /// Makes the pseudonyms of authenticated callers.
    secret: Option<UsernameSecret>,
    requests: Admission,
}

impl Operators {
    /// Callers who are authenticated get pseudonyms under the secret.
    #[must_use]
    pub fn new(secret: Option<UsernameSecret>) -> Self {
        Self {
            secret,
            requests: Admission::new("requests of operators", REQUESTS),
        }
    }

    /// Does the work of one request. The work is boxed, because its futures are large and rare.
    async fn run<T>(
        &self,
        work: Pin<Box<impl Future<Output = Result<T, OperationError>>>>,
    ) -> Result<T, Problem> {
        match self.requests.run(work).await {
            Ok(done) => done.map_err(problem),
            Err(Overload::Full) => Err(problem_types::overloaded(
                "too many requests of operators are worked on",
            )),
            Err(error @ Overload::OutOfTime) => Err(unavailable(&error.to_string())),
        }
    }

    /// The revision of an event, and the decision to give it up: `{"revision","reason"}`, and `by` if callers are not
    /// authenticated.
    fn decision(
        &self,
        request: &HttpRequest,
        mut body: Fields,
    ) -> Result<(u64, Decision), Problem> {
        let revision = body.required_text_or_number("revision", |text| {
            let revision = text.parse::<u64>();
            revision.map_err(|_| "must be the revision of an event, as the list shows it")
        });
        let reason = body.required("reason", |text| text.parse());
        let by = match request.extensions().get::<Access>() {
            Some(access) => {
                let secret = self.secret.as_ref().ok_or_else(Problem::internal)?;
                let pseudonym = secret.caller(access.subject()).parse();
                Some(pseudonym.map_err(|_| Problem::internal())?)
            }
            None => body.required("by", |text| text.parse()),
        };
        let decision = by.zip(reason).map(|(by, reason)| Decision { by, reason });
        body.finish(revision.zip(decision))
    }
}

/// The problem of an operation that was not carried out. A failure is logged here.
fn problem(error: OperationError) -> Problem {
    match error {
        OperationError::NotParked(_) => {
            Problem::new(web::problem_types::NOT_FOUND, "the stream is not parked")
        }
        OperationError::NotHeld(_) => {
            Problem::new(web::problem_types::NOT_FOUND, "the user is not held")
        }
        error @ OperationError::MovedOn => Problem::new(problem_types::MOVED_ON, error.to_string()),
        OperationError::Failed(error) => unavailable(&format!("{error:#}")),
    }
}

fn unavailable(error: &str) -> Problem {
    tracing::warn!(error, "an operation was not carried out");
    Problem::unavailable("the service is temporarily unavailable", RETRY_AFTER)
}
