//! The routes of single users: parsing of requests, and one answer for each outcome.
//!
//! Invariant: personal data appears only in answers to requests for it.

use super::command_answer::status_of;
use super::command_status::CommandStatus;
use super::conditions;
use super::envelope::{Command, CommandKind, Committed};
use super::error::CommandError;
use super::execute::{Execute, Executed};
use super::handler::CommandHandler;
use super::prefer::APPLIED;
use super::problems::problem;
use super::status_link::StatusLink;
use crate::consistency_token::{CONSISTENCY_TOKEN, ConsistencyToken, LAST_REVISION};
use crate::domain::{Profile, UserId};
use crate::scopes;
use crate::user_body::{self, UserBody};
use actix_web::http::header::{CACHE_CONTROL, HeaderName, HeaderValue, LOCATION, RETRY_AFTER};
use actix_web::web::{Data, ServiceConfig};
use actix_web::{
    HttpRequest, HttpResponse, HttpResponseBuilder, Resource, ResponseError as _, web as actix,
};
use serde_json::{Value, json};
use web::{Json, MergePatch, PathId, Problem, secured};

/// Marks the answer of a command that had been executed or refused before, under the same idempotency key.
const REPLAYED: (HeaderName, HeaderValue) = (
    HeaderName::from_static("idempotency-replayed"),
    HeaderValue::from_static("true"),
);
/// The status of a command may change at any time.
const NOT_STORED: (HeaderName, HeaderValue) = (CACHE_CONTROL, HeaderValue::from_static("no-store"));
/// The seconds after which a client should look at a status again.
const LOOK_AGAIN_AFTER: u64 = 1;

fn shown(id: UserId, profile: &Profile) -> UserBody<'_> {
    UserBody::new(id, profile.names().map(|name| name.reveal().as_str()))
}

/// Adds `POST` to the resource of all users (`/`).
pub fn create_at(users: Resource) -> Resource {
    users.route(secured(actix::post().to(create), &[scopes::WRITE]))
}

/// Adds the resource of one user: `GET`, `PATCH` and `DELETE` of `/{id}`, and the status of one command: `GET` of
/// `/commands/{link}`. Requires `Data<CommandHandler>`. With `Data<CommandSender>`, clients may prefer asynchronous answers.
pub fn one_user(config: &mut ServiceConfig) {
    let status = actix::resource("/commands/{link}").route(secured(
        actix::get().to(status),
        &[scopes::WRITE, scopes::ERASE],
    ));
    let user = actix::resource("/{id}")
        .route(secured(actix::get().to(get), &[scopes::READ]))
        .route(secured(actix::patch().to(patch), &[scopes::WRITE]))
        .route(secured(actix::delete().to(delete), &[scopes::ERASE]));
    config.service(status).service(user);
}

async fn create(execute: Execute, Json(body): Json) -> Result<HttpResponse, Problem> {
    let profile = user_body::new_user(body)?;
    match execute.run(Command::Create(profile.clone())).await {
        Ok(Executed::Now(done)) => {
            let id = done.user;
            let mut answer = answer(CommandKind::Create, &done);
            answer.insert_header((LOCATION, format!("/{id}")));
            answer.insert_header(conditions::etag(done.revision));
            Ok(answer.json(shown(id, &profile)))
        }
        Ok(Executed::Later(link)) => Ok(accepted(&link)),
        Err(error) => refused(error),
    }
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
    PathId(id): PathId,
    execute: Execute,
    MergePatch(body): MergePatch,
) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    let changes = user_body::changes(body, id)?;
    match execute.run(Command::Patch(id, changes)).await {
        Ok(Executed::Now(done)) => {
            let mut answer = answer(CommandKind::Patch, &done);
            Ok(answer
                .insert_header(conditions::etag(done.revision))
                .finish())
        }
        Ok(Executed::Later(link)) => Ok(accepted(&link)),
        Err(error) => refused(error),
    }
}

async fn delete(PathId(id): PathId, execute: Execute) -> Result<HttpResponse, Problem> {
    match execute.run(Command::Delete(UserId::new(id))).await {
        Ok(Executed::Now(done)) => Ok(answer(CommandKind::Delete, &done).finish()),
        Ok(Executed::Later(link)) => Ok(accepted(&link)),
        Err(error) => refused(error),
    }
}

/// Answers `{"status":"pending"}`, `{"status":"done","result":{…}}`, or `{"status":"refused","problem":{…}}`.
async fn status(
    handler: Data<CommandHandler>,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let link = request.match_info().query("link");
    let status = handler.status(link).await.map_err(problem)?;
    let mut answer = HttpResponse::Ok();
    answer.insert_header(NOT_STORED);
    Ok(match status.ok_or_else(Problem::not_found)? {
        CommandStatus::Pending => {
            answer.insert_header((RETRY_AFTER, LOOK_AGAIN_AFTER));
            answer.json(pending())
        }
        CommandStatus::Done(result) => {
            answer.json(json!({"status": "done", "result": result.json()}))
        }
        CommandStatus::Refused(problem) => {
            answer.json(json!({"status": "refused", "problem": problem.json()}))
        }
    })
}

fn pending() -> Value {
    json!({"status": "pending"})
}

/// The answer to a command that is in the queue.
fn accepted(link: &StatusLink) -> HttpResponse {
    let location = format!("/commands/{}", link.as_str());
    HttpResponse::Accepted()
        .insert_header(APPLIED)
        .insert_header(NOT_STORED)
        .insert_header((LOCATION, location))
        .json(pending())
}

/// The answer to a command that was executed, now or before.
fn answer(kind: CommandKind, done: &Committed) -> HttpResponseBuilder {
    let mut answer = HttpResponse::build(status_of(kind));
    answer.insert_header((CONSISTENCY_TOKEN, token(kind, done).to_string()));
    if done.replayed {
        answer.insert_header(REPLAYED);
    }
    answer
}

/// The token of a command that was executed. After a deletion the read model has the last revision of all.
fn token(kind: CommandKind, done: &Committed) -> ConsistencyToken {
    let revision = match kind {
        CommandKind::Create | CommandKind::Patch => done.revision,
        CommandKind::Delete => LAST_REVISION,
    };
    ConsistencyToken {
        user: done.user,
        revision,
    }
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
