//! The routes of single users: parsing of requests, and one answer for each outcome.
//!
//! Invariant: personal data appears only in answers to requests for it.

use super::error::CommandError;
use super::handler::CommandHandler;
use crate::domain::{Profile, UserError, UserId};
use crate::problem_types;
use crate::user_body::{self, UserBody};
use actix_web::http::header::LOCATION;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, Resource, web as actix};
use web::{Json, MergePatch, PathId, Problem};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;

fn shown(id: UserId, profile: &Profile) -> UserBody<'_> {
    let names = [
        profile.username.personal(),
        profile.given_name.personal(),
        profile.family_name.personal(),
    ];
    UserBody::new(id, names.map(|name| name.reveal().as_str()))
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

async fn create(handler: Data<CommandHandler>, Json(body): Json) -> Result<HttpResponse, Problem> {
    let profile = user_body::new_user(body)?;
    let id = handler.create(profile.clone()).await.map_err(problem)?;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/{id}")))
        .json(shown(id, &profile)))
}

async fn get(handler: Data<CommandHandler>, PathId(id): PathId) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    let user = handler.get(id).await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(shown(id, &user.profile)))
}

async fn patch(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
    MergePatch(body): MergePatch,
) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    let changes = user_body::changes(body, id)?;
    handler.patch(id, changes).await.map_err(problem)?;
    Ok(HttpResponse::NoContent().finish())
}

async fn delete(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
) -> Result<HttpResponse, Problem> {
    handler.delete(UserId::new(id)).await.map_err(problem)?;
    Ok(HttpResponse::NoContent().finish())
}

fn problem(error: CommandError) -> Problem {
    match error {
        CommandError::Rejected(UserError::Unknown | UserError::Erased | UserError::Abandoned) => {
            Problem::not_found()
        }
        CommandError::Rejected(UserError::UsernameTaken | UserError::Exists) => {
            Problem::new(problem_types::USERNAME_TAKEN, "the username is taken")
        }
        CommandError::Conflict => {
            let detail = "too many conflicts with other requests";
            Problem::new(problem_types::CONTENDED, detail).retry_after(RETRY_AFTER)
        }
        CommandError::Unavailable(source) => {
            tracing::warn!(error = %source, "a command was not executed");
            Problem::unavailable("the service is temporarily unavailable", RETRY_AFTER)
        }
    }
}
