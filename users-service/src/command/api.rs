//! The routes of single users: parsing of requests, and one answer for each outcome.
//!
//! Invariant: personal data appears only in answers to requests for it.

use super::conditions;
use super::envelope::{Command, Committed};
use super::error::CommandError;
use super::handler::CommandHandler;
use super::request_context::RequestContext;
use crate::domain::{Profile, UserError, UserId};
use crate::problem_types;
use crate::user_body::{self, UserBody};
use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue, LOCATION};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, Resource, ResponseError as _, web as actix,
};
use web::{Json, MergePatch, PathId, Problem};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
/// Marks the answer of a command that had been executed or refused before, under the same idempotency key.
const REPLAYED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("idempotency-replayed"),
    HeaderValue::from_static("true"),
);

fn shown(id: UserId, profile: &Profile) -> UserBody<'_> {
    UserBody::new(id, profile.names().map(|name| name.reveal().as_str()))
}

/// Adds `POST` to the resource of all users (`/`).
pub fn create_at(users: Resource) -> Resource {
    users.route(actix::post().to(create))
}

/// Adds the resource of one user: `GET`, `PATCH` and `DELETE` of `/{id}`. Requires `Data<CommandHandler>`.
pub fn one_user(config: &mut ServiceConfig) {
    let user = actix::resource("/{id}")
        .route(actix::get().to(get))
        .route(actix::patch().to(patch))
        .route(actix::delete().to(delete));
    config.service(user);
}

async fn create(
    handler: Data<CommandHandler>,
    context: RequestContext,
    Json(body): Json,
) -> Result<HttpResponse, Problem> {
    let profile = user_body::new_user(body)?;
    let create = context.envelope(Command::Create(profile.clone()));
    let done = match handler.execute(&create).await {
        Ok(done) => done,
        Err(error) => return refused(error),
    };
    let id = done.user;
    let mut answer = answer(StatusCode::CREATED, &done);
    answer.insert_header((LOCATION, format!("/{id}")));
    answer.insert_header(conditions::etag(done.revision));
    Ok(answer.json(shown(id, &profile)))
}

async fn get(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    let (profile, revision) = handler.get(id).await.map_err(problem)?;
    let etag = conditions::etag(revision);
    if conditions::is_known(&request, revision) {
        return Ok(HttpResponse::NotModified().insert_header(etag).finish());
    }
    Ok(HttpResponse::Ok()
        .insert_header(etag)
        .json(shown(id, &profile)))
}

async fn patch(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
    context: RequestContext,
    MergePatch(body): MergePatch,
) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    let changes = user_body::changes(body, id)?;
    let patch = context.envelope(Command::Patch(id, changes));
    match handler.execute(&patch).await {
        Ok(done) => {
            let mut answer = answer(StatusCode::NO_CONTENT, &done);
            Ok(answer
                .insert_header(conditions::etag(done.revision))
                .finish())
        }
        Err(error) => refused(error),
    }
}

async fn delete(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
    context: RequestContext,
) -> Result<HttpResponse, Problem> {
    let delete = context.envelope(Command::Delete(UserId::new(id)));
    match handler.execute(&delete).await {
        Ok(done) => Ok(answer(StatusCode::NO_CONTENT, &done).finish()),
        Err(error) => refused(error),
    }
}

/// The answer to a command that was executed, now or before.
fn answer(status: StatusCode, done: &Committed) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status);
    if done.replayed {
        answer.insert_header(REPLAYED);
    }
    answer
}

/// The answer to a command that was refused. The answer to a command that was refused before says so.
fn refused(error: CommandError) -> Result<HttpResponse, Problem> {
    let CommandError::RefusedBefore(refusal) = error else {
        return Err(problem(error));
    };
    let mut answer = problem(*refusal).error_response();
    let (name, value) = REPLAYED;
    answer.headers_mut().insert(name, value);
    Ok(answer)
}

fn problem(error: CommandError) -> Problem {
    match error {
        CommandError::Rejected(UserError::Unknown | UserError::Erased | UserError::Abandoned) => {
            Problem::not_found()
        }
        CommandError::Rejected(UserError::UsernameTaken | UserError::Exists) => {
            Problem::new(problem_types::USERNAME_TAKEN, "the username is taken")
        }
        CommandError::RefusedBefore(refusal) => problem(*refusal),
        CommandError::PreconditionFailed => Problem::new(
            problem_types::PRECONDITION_FAILED,
            "the user has another version than If-Match requires",
        ),
        CommandError::Gone => Problem::new(
            problem_types::GONE,
            "the command was executed before, and its user has been deleted since",
        ),
        CommandError::KeyReused => Problem::new(
            problem_types::KEY_REUSED,
            "the idempotency key was used for a request with another body",
        ),
        CommandError::Conflict | CommandError::Superseded => {
            let detail = "too many conflicts with other requests";
            Problem::new(problem_types::CONTENDED, detail).retry_after(RETRY_AFTER)
        }
        CommandError::Overloaded => {
            let detail = "the service has too much to do, and nothing was done";
            Problem::new(problem_types::OVERLOADED, detail).retry_after(RETRY_AFTER)
        }
        CommandError::Unavailable(source) => {
            tracing::warn!(error = %source, "a command was not executed");
            Problem::unavailable("the service is temporarily unavailable", RETRY_AFTER)
        }
    }
}
