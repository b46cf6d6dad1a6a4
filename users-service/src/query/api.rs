//! The route `GET /`, which lists and finds users in the order of their creation.

use super::cursor::Cursors;
use super::parameters::Parameters;
use super::visibility::{PATIENCE, until_visible};
use crate::admission::{Admission, Overload};
use crate::consistency_token::{CONSISTENCY_TOKEN, ConsistencyToken};
use crate::domain::{NameField, Personal};
use crate::privacy::subject_keys::SubjectKeys;
use crate::problem_types;
use crate::read_model::{
    CurrentGeneration, Directory, DirectoryPage, Generation, ListedUser, PageRequest,
};
use crate::scopes;
use crate::user_body::UserBody;
use actix_web::http::header::LINK;
use actix_web::web::{Data, get};
use actix_web::{HttpRequest, HttpResponse, Resource};
use serde::Serialize;
use std::time::Duration;
use web::{Problem, Query, secured};

/// The seconds after which a client should retry.
const RETRY_AFTER: u64 = 1;
/// The most pages that are read at once. A page of 1,000 users takes up to three megabytes while it is read.
const PAGES: usize = 64;
/// The most queries that wait for the read model at once. Each looks at one row every 20 ms.
const WAITING: usize = 64;

/// The list.
#[derive(Debug, Clone)]
pub struct UserList {
    pub(crate) current: CurrentGeneration,
    directory: Directory,
    cursors: Cursors,
    /// They are looked up for each request.
    keys: SubjectKeys,
    pages: Admission,
    /// Queries that wait for the read model.
    waiting: Admission,
    patience: Duration,
}

impl UserList {
    /// The list in this read model.
    #[must_use]
    pub fn new(
        (directory, current): (Directory, CurrentGeneration),
        keys: SubjectKeys,
        cursors: Cursors,
    ) -> Self {
        Self {
            current,
            directory,
            cursors,
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
            let Some(generation) = self.current.get() else {
                return Ok(false);
            };
            let revision = generation.revision(token.user).await?;
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

    async fn page(&self, request: &PageRequest) -> Result<DirectoryPage, Problem> {
        let generation = built(&self.current)?;
        let page = self.directory.page(&generation, &self.keys, request);
        in_place(&self.pages, "too many pages of the list are read", page).await
    }
}

/// The generation that readers use.
pub(super) fn built(current: &CurrentGeneration) -> Result<Generation, Problem> {
    let detail = "the read model is being built; try again later";
    let generation = current.get();
    generation.ok_or_else(|| Problem::unavailable(detail, RETRY_AFTER))
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

#[derive(Serialize)]
struct Body<'a> {
    data: Vec<UserBody<'a>>,
    next: Option<String>,
}

/// Adds `GET` to the resource of all users (`/`). Requires `Data<UserList>`.
pub fn list_at(users: Resource) -> Resource {
    users.route(secured(get().to(list), &[scopes::READ]))
}

async fn list(
    users: Data<UserList>,
    request: HttpRequest,
    Query(parameters): Query<Parameters>,
) -> Result<HttpResponse, Problem> {
    let wanted = parameters.page(&users.cursors)?;
    if let Some(token) = request.headers().get(CONSISTENCY_TOKEN) {
        let token = token.to_str().ok().and_then(|token| token.parse().ok());
        users.wait_for(token.ok_or_else(unknown_token)?).await?;
    }
    let page = users.page(&wanted).await?;
    let next = page.next.map(|place| users.cursors.write(&wanted, place));
    let mut answer = HttpResponse::Ok();
    if let Some(next) = &next {
        answer.insert_header((LINK, format!("<?cursor={next}>; rel=\"next\"")));
    }
    Ok(answer.json(Body {
        data: page.users.iter().map(shown).collect(),
        next,
    }))
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
