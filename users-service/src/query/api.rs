//! The route `GET /?limit=&cursor=`, which lists the users in the order of their ids.

use crate::domain::{NameField, Personal, UserId};
use crate::privacy::subject_keys::SubjectKeys;
use crate::read_model::{ListedUser, PageError, ReadModel, UserPage};
use crate::scopes;
use crate::user_body::UserBody;
use actix_web::web::{Data, get};
use actix_web::{HttpResponse, Resource};
use serde::{Deserialize, Serialize};
use web::{InputError, Problem, Query, secured};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;

/// The read model and the keys that the list needs.
#[derive(Debug, Clone)]
pub struct Directory {
    /// The read model.
    pub read_model: ReadModel,
    /// The subject keys. They are looked up for each request.
    pub keys: SubjectKeys,
}

#[derive(Deserialize)]
struct Parameters {
    limit: Option<String>,
    cursor: Option<String>,
}

#[derive(Serialize)]
struct Body<'a> {
    data: Vec<UserBody<'a>>,
    next: Option<String>,
}

/// Adds `GET` to the resource of all users (`/`). Requires `Data<Directory>`.
pub fn list_at(users: Resource) -> Resource {
    users.route(secured(get().to(list), &[scopes::READ]))
}

async fn list(
    directory: Data<Directory>,
    Query(parameters): Query<Parameters>,
) -> Result<HttpResponse, Problem> {
    let (limit, after) = parameters.parse()?;
    let page = directory.read_model.page(&directory.keys, after, limit);
    let page = page.await.map_err(|error| problem(&error))?;
    Ok(HttpResponse::Ok().json(Body::from(&page)))
}

impl Parameters {
    /// The size of the page and the last id of the page before it.
    fn parse(&self) -> Result<(usize, Option<UserId>), Problem> {
        match (self.limit(), self.cursor()) {
            (Ok(limit), Ok(cursor)) => Ok((limit, cursor)),
            (limit, cursor) => {
                let errors = [limit.err(), cursor.err()];
                Err(Problem::invalid_input(
                    errors.into_iter().flatten().collect(),
                ))
            }
        }
    }

    fn limit(&self) -> Result<usize, InputError> {
        let Some(limit) = &self.limit else {
            return Ok(DEFAULT_LIMIT);
        };
        let limit = limit.parse().ok();
        let limit = limit.filter(|limit| (1..=MAX_LIMIT).contains(limit));
        let rule = || format!("`limit` must be from 1 to {MAX_LIMIT}");
        limit.ok_or_else(|| InputError::parameter("limit", rule()))
    }

    fn cursor(&self) -> Result<Option<UserId>, InputError> {
        let cursor = self.cursor.as_deref().map(str::parse).transpose();
        let rule = "`cursor` must be the `next` of a previous page";
        cursor.map_err(|_| InputError::parameter("cursor", rule))
    }
}

impl<'a> From<&'a UserPage> for Body<'a> {
    fn from(page: &'a UserPage) -> Self {
        Self {
            data: page.users.iter().map(shown).collect(),
            next: page.next.map(|id| id.to_string()),
        }
    }
}

fn shown(user: &ListedUser) -> UserBody<'_> {
    let name = |field: NameField| {
        let name = user.names.get(&field).map(Personal::reveal);
        name.map_or("", String::as_str)
    };
    UserBody::new(user.id, NameField::ALL.map(name))
}

fn problem(error: &PageError) -> Problem {
    tracing::error!(%error, "the list cannot be read");
    Problem::unavailable("the list is temporarily unavailable", RETRY_AFTER)
}
