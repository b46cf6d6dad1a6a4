//! The route `GET /?limit=&cursor=`, which lists the users in the order of their ids.

use crate::admission::{Admission, Overload};
use crate::domain::{NameField, Personal, UserId};
use crate::privacy::subject_keys::SubjectKeys;
use crate::problem_types;
use crate::read_model::{ListedUser, ReadModel, UserPage};
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
/// The most pages that are read at once. A page of 1,000 users takes up to three megabytes while it is read.
const PAGES: usize = 64;

/// The list.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) read_model: ReadModel,
    /// They are looked up for each request.
    keys: SubjectKeys,
    pages: Admission,
}

impl Directory {
    /// The list in this read model.
    #[must_use]
    pub fn new(read_model: ReadModel, keys: SubjectKeys) -> Self {
        Self {
            read_model,
            keys,
            pages: Admission::new("pages of the list", PAGES),
        }
    }

    /// Fails with the reason while pages are refused because there are too many requests.
    pub(crate) fn check_capacity(&self) -> Result<(), String> {
        self.pages.check()
    }

    async fn page(&self, after: Option<UserId>, limit: usize) -> Result<UserPage, Problem> {
        let page = self.read_model.page(&self.keys, after, limit);
        match self.pages.run(page).await {
            Ok(page) => page.map_err(|error| problem(&error)),
            Err(Overload::Full) => {
                let detail = "too many pages of the list are read";
                Err(Problem::new(problem_types::OVERLOADED, detail).retry_after(RETRY_AFTER))
            }
            Err(error @ Overload::OutOfTime) => Err(problem(&error)),
        }
    }
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
    let page = directory.page(after, limit).await?;
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

fn problem(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "the list cannot be read");
    Problem::unavailable("the list is temporarily unavailable", RETRY_AFTER)
}
