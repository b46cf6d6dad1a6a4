//! The route `GET /?limit=&cursor=`, which lists the users in the order of their ids.

use super::visibility::{PATIENCE, until_visible};
use crate::admission::{Admission, Overload};
use crate::consistency_token::{CONSISTENCY_TOKEN, ConsistencyToken};
use crate::domain::{NameField, Personal, UserId};
use crate::privacy::subject_keys::SubjectKeys;
use crate::problem_types;
use crate::read_model::{ListedUser, ReadModel, UserPage};
use crate::scopes;
use crate::user_body::UserBody;
use actix_web::web::{Data, get};
use actix_web::{HttpRequest, HttpResponse, Resource};
use serde::{Deserialize, Serialize};
use std::time::Duration;
use web::{InputError, Problem, Query, secured};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
const DEFAULT_LIMIT: usize = 100;
const MAX_LIMIT: usize = 1_000;
/// The most pages that are read at once. A page of 1,000 users takes up to three megabytes while it is read.
const PAGES: usize = 64;
/// The most queries that wait for the read model at once. Each looks at one row every 20 ms.
const WAITING: usize = 64;

/// The list.
#[derive(Debug, Clone)]
pub struct Directory {
    pub(crate) read_model: ReadModel,
    /// They are looked up for each request.
    keys: SubjectKeys,
    pages: Admission,
    /// Queries that wait for the read model.
    waiting: Admission,
    patience: Duration,
}

impl Directory {
    /// The list in this read model.
    #[must_use]
    pub fn new(read_model: ReadModel, keys: SubjectKeys) -> Self {
        Self {
            read_model,
            keys,
            pages: Admission::new("pages of the list", PAGES),
            waiting: Admission::new("queries that wait for the read model", WAITING),
            patience: PATIENCE,
        }
    }

    /// Sets how long a query with a consistency token waits; the default is 5 s.
    #[must_use]
    pub fn patience(self, patience: Duration) -> Self {
        Self { patience, ..self }
    }

    /// Fails with the reason while pages are refused because there are too many requests.
    pub(crate) fn check_capacity(&self) -> Result<(), String> {
        self.pages.check()
    }

    /// Waits until the read model has the command of this token.
    async fn wait_for(&self, token: ConsistencyToken) -> Result<(), Problem> {
        let has = async || {
            let revision = self.read_model.revision(token.user).await?;
            let revision = revision.and_then(|revision| u64::try_from(revision).ok());
            Ok::<_, sqlx::Error>(revision >= Some(token.revision))
        };
        let waiting = until_visible(self.patience, has);
        let full = "too many queries wait for the list";
        if in_place(&self.waiting, full, waiting).await? {
            return Ok(());
        }
        let detail = "the list does not have the command of the consistency token yet";
        Err(Problem::unavailable(detail, RETRY_AFTER))
    }

    async fn page(&self, after: Option<UserId>, limit: usize) -> Result<UserPage, Problem> {
        let page = self.read_model.page(&self.keys, after, limit);
        in_place(&self.pages, "too many pages of the list are read", page).await
    }
}

/// Does the work of one query, if there is a place for it.
async fn in_place<T, E: std::error::Error>(
    places: &Admission,
    full: &'static str,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, Problem> {
    match places.run(work).await {
        Ok(done) => done.map_err(|error| problem(&error)),
        Err(Overload::Full) => Err(problem_types::overloaded(full)),
        Err(error @ Overload::OutOfTime) => Err(problem(&error)),
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
    request: HttpRequest,
    Query(parameters): Query<Parameters>,
) -> Result<HttpResponse, Problem> {
    let (limit, after) = parameters.parse()?;
    if let Some(token) = request.headers().get(CONSISTENCY_TOKEN) {
        let token = token.to_str().ok().and_then(|token| token.parse().ok());
        directory.wait_for(token.ok_or_else(unknown_token)?).await?;
    }
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

fn unknown_token() -> Problem {
    let detail = "the consistency token is none of this service; ask again without it";
    Problem::new(problem_types::UNKNOWN_TOKEN, detail)
}

fn problem(error: &dyn std::error::Error) -> Problem {
    tracing::error!(%error, "the list cannot be read");
    Problem::unavailable("the list is temporarily unavailable", RETRY_AFTER)
}
