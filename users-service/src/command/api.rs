//! The routes of single users: parsing of requests, and one answer for each outcome.
//!
//! Invariant: personal data appears only in answers to requests for it.

use super::conversation::Conversation;
use super::envelope::{Command, Envelope};
use super::error::CommandError;
use super::handler::CommandHandler;
use crate::domain::{
    Changes, FamilyName, GivenName, InvalidName, Profile, UserError, UserId, Username,
};
use crate::user_body::UserBody;
use actix_web::http::header::LOCATION;
use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, Resource, web as actix};
use serde::{Deserialize, Deserializer};
use web::{Json, PathId, Problem};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    username: String,
    given_name: String,
    family_name: String,
}

/// The body of a `PATCH`. A client may change the answer of a `GET` and send it back, so the id of the path is allowed.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Patch {
    #[serde(default, deserialize_with = "present")]
    id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    username: Option<String>,
    #[serde(default, deserialize_with = "present")]
    given_name: Option<String>,
    #[serde(default, deserialize_with = "present")]
    family_name: Option<String>,
}

/// Requires a present member to be a text, so `null` is refused. A member that does not change is omitted.
fn present<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    String::deserialize(value).map(Some)
}

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

async fn create(
    handler: Data<CommandHandler>,
    Conversation(correlation): Conversation,
    Json(body): Json<NewUser>,
) -> Result<HttpResponse, Problem> {
    let profile = body.parse().map_err(invalid)?;
    let create = Envelope::new(Command::Create(profile.clone())).in_conversation(correlation);
    let id = handler.execute(&create).await.map_err(problem)?.user;
    Ok(HttpResponse::Created()
        .insert_header((LOCATION, format!("/{id}")))
        .json(shown(id, &profile)))
}

async fn get(handler: Data<CommandHandler>, PathId(id): PathId) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    let profile = handler.get(id).await.map_err(problem)?;
    Ok(HttpResponse::Ok().json(shown(id, &profile)))
}

async fn patch(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
    Conversation(correlation): Conversation,
    Json(body): Json<Patch>,
) -> Result<HttpResponse, Problem> {
    let id = UserId::new(id);
    body.check_id(id)?;
    let changes = body.parse().map_err(invalid)?;
    let patch = Envelope::new(Command::Patch(id, changes)).in_conversation(correlation);
    handler.execute(&patch).await.map_err(problem)?;
    Ok(HttpResponse::NoContent().finish())
}

async fn delete(
    handler: Data<CommandHandler>,
    PathId(id): PathId,
    Conversation(correlation): Conversation,
) -> Result<HttpResponse, Problem> {
    let delete = Envelope::new(Command::Delete(UserId::new(id))).in_conversation(correlation);
    handler.execute(&delete).await.map_err(problem)?;
    Ok(HttpResponse::NoContent().finish())
}

impl NewUser {
    fn parse(self) -> Result<Profile, InvalidName> {
        Ok(Profile {
            username: Username::parse(self.username)?,
            given_name: GivenName::parse(self.given_name)?,
            family_name: FamilyName::parse(self.family_name)?,
        })
    }
}

impl Patch {
    fn check_id(&self, id: UserId) -> Result<(), Problem> {
        match &self.id {
            Some(other) if *other != id.to_string() => {
                Err(Problem::invalid("id", "`id` must be the id in the path"))
            }
            Some(_) | None => Ok(()),
        }
    }

    fn parse(self) -> Result<Changes, InvalidName> {
        Ok(Changes {
            username: self.username.map(Username::parse).transpose()?,
            given_name: self.given_name.map(GivenName::parse).transpose()?,
            family_name: self.family_name.map(FamilyName::parse).transpose()?,
        })
    }
}

fn invalid(name: InvalidName) -> Problem {
    let detail = format!("`{}` {}", name.field, name.problem);
    Problem::invalid(name.field.as_str(), detail)
}

fn problem(error: CommandError) -> Problem {
    match error {
        CommandError::Rejected(UserError::Unknown | UserError::Erased | UserError::Abandoned) => {
            Problem::not_found()
        }
        CommandError::Rejected(UserError::UsernameTaken | UserError::Exists) => {
            Problem::conflict("the username is taken")
        }
        CommandError::Conflict => {
            Problem::unavailable("too many conflicts with other requests", RETRY_AFTER)
        }
        CommandError::Unavailable(source) => {
            tracing::warn!(error = %source, "a command was not executed");
            Problem::unavailable("the service is temporarily unavailable", RETRY_AFTER)
        }
    }
}
