//! Pages of the directory: users in the order of their creation.
//!
//! Invariant: a page examines one row more than it has, however many users there are.

use super::row::{self, Row};
use super::{Directory, tables};
use crate::domain::UserId;
use crate::integration::message::ClearNames;
use crate::privacy::cipher::KeyId;
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use crate::read_model::{Generation, NameFilter, number, user};

/// The users after a place.
pub(super) const LIST: &str = "
    SELECT id, created, key, username, given_name, family_name, terms FROM users
    WHERE (created, id) > ($1, $2) ORDER BY created, id LIMIT $3";

/// The users after a place that have a term.
pub(super) const FIND: &str = "
    SELECT users.id, users.created, key, username, given_name, family_name, terms
    FROM terms JOIN users ON users.id = terms.id
    WHERE term = $4 AND (terms.created, terms.id) > ($1, $2) ORDER BY terms.created, terms.id LIMIT $3";

/// A user in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUser {
    /// The user's id.
    pub id: UserId,
    /// All three names.
    pub names: ClearNames,
}

/// A user's place in the order of the list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PagePlace {
    /// The time of creation, in milliseconds since the Unix epoch.
    pub created: u64,
    /// The user's id.
    pub id: UserId,
}

/// The wanted users.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PageRequest {
    /// Users after this place. All, if there is none.
    pub after: Option<PagePlace>,
    /// Users that all of these admit. The first one is looked up.
    pub filters: Vec<NameFilter>,
    /// At most so many.
    pub limit: usize,
}

/// Users in the order of their creation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryPage {
    /// The users, at most as many as requested.
    pub users: Vec<ListedUser>,
    /// The place of the last user of this page, if there is another page.
    pub next: Option<PagePlace>,
}

/// Why a page cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PageError {
    /// The database failed.
    #[error("the read model failed")]
    Database(#[from] sqlx::Error),
    /// The key store failed.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A key is neither present nor destroyed. This is not an erasure.
    #[error("key {0} is lost")]
    KeyLost(KeyId),
    /// A value does not open.
    #[error("the row of user {0} is damaged")]
    Damaged(UserId),
}

type Rows = Vec<(UserId, Row)>;

impl Directory {
    /// A page of this generation.
    ///
    /// # Errors
    /// [`PageError`]
    pub async fn page(
        &self,
        generation: &Generation,
        keys: &SubjectKeys,
        request: &PageRequest,
    ) -> Result<DirectoryPage, PageError> {
        let mut users = Vec::new();
        let mut after = request.after;
        loop {
            let wanted = request.limit - users.len();
            // One more than wanted says whether there is another page.
            let mut rows = self.rows(generation, request, after, wanted + 1).await?;
            let more = rows.len() > wanted;
            rows.truncate(wanted);
            after = rows.last().map(|(id, row)| place(*id, row));
            let opened = open(rows, keys, generation.number()).await?;
            let admitted = |user: &ListedUser| admits(&request.filters, user);
            users.extend(opened.into_iter().filter(admitted));
            if !more || users.len() == request.limit {
                let next = after.filter(|_| more);
                return Ok(DirectoryPage { users, next });
            }
        }
    }

    async fn rows(
        &self,
        generation: &Generation,
        request: &PageRequest,
        after: Option<PagePlace>,
        limit: usize,
    ) -> Result<Rows, PageError> {
        let filter = request.filters.first();
        let term = filter.map(|filter| filter.term(&self.secret));
        let query = sqlx::query(if term.is_some() { FIND } else { LIST });
        let (created, id) = after.map_or((-1, -1), |place| {
            (number(place.created), number(place.id.number()))
        });
        let mut query = query.bind(created).bind(id);
        query = query.bind(i64::try_from(limit).unwrap_or(i64::MAX));
        if let Some(term) = term {
            query = query.bind(term);
        }
        let rows = query.fetch_all(generation.pool()).await?;
        let decoded = rows
            .iter()
            .map(|row| Ok((user(row)?, tables::decoded(row)?)));
        Ok(decoded.collect::<Result<_, sqlx::Error>>()?)
    }
}

fn place(id: UserId, row: &Row) -> PagePlace {
    PagePlace {
        created: row.created,
        id,
    }
}

fn admits(filters: &[NameFilter], user: &ListedUser) -> bool {
    filters.iter().all(|filter| filter.admits(&user.names))
}

/// Opens the rows with the current keys of the key store. Leaves out rows whose key is destroyed.
async fn open(
    rows: Rows,
    keys: &SubjectKeys,
    generation: u32,
) -> Result<Vec<ListedUser>, PageError> {
    let ids: Vec<KeyId> = rows.iter().map(|(_, row)| row.key).collect();
    let keys = keys.find_many(&ids).await?;
    let mut users = Vec::new();
    for (id, row) in rows {
        match keys.get(&row.key) {
            Some(Lookup::Found(key)) => users.push(ListedUser {
                id,
                names: row::open(&row, key, generation).map_err(|_| PageError::Damaged(id))?,
            }),
            Some(Lookup::Destroyed) => {}
            Some(Lookup::Missing) | None => return Err(PageError::KeyLost(row.key)),
        }
    }
    Ok(users)
}

#[cfg(test)]
mod tests;
