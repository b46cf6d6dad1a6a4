//! The read model `directory`: users by id, page by page, in one SQLite file.
//!
//! Names are sealed under the users' keys. When a key is destroyed, the user vanishes from this file and from every copy and
//! backup of it.
//!
//! Invariant: a user whose key is destroyed is in no page. Keys are looked up after the rows were read, and are not cached.

mod row;

pub use row::{ERASED, Row, SealedProfile};

use crate::database::{self, CONNECTIONS};
use crate::domain::{NameField, Personal, UserId};
use crate::privacy::cipher::{DoesNotOpen, KeyId, Place, Sealed, SubjectKey};
use crate::privacy::subject_keys::{KeysError, Lookup, SubjectKeys};
use sqlx::Row as _;
use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqlitePool, SqliteRow};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

/// The database file. Clones share its connections.
#[derive(Debug, Clone)]
pub struct ReadModel {
    pool: SqlitePool,
    /// One connection that never waits for a lock, for statements that would keep others waiting.
    impatient: SqlitePool,
    /// One connection whose commits are flushed, for data that the log cannot restore.
    durable: SqlitePool,
}

/// A user in the list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedUser {
    /// The user's id.
    pub id: UserId,
    /// All three names.
    pub names: BTreeMap<NameField, Personal<String>>,
}

/// Users in the order of their ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserPage {
    /// The users, at most as many as requested.
    pub users: Vec<ListedUser>,
    /// The last user of this page, if there is another page.
    pub next: Option<UserId>,
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
    /// A value does not open, or the row is incomplete.
    #[error("the row of user {0} is damaged")]
    Damaged(UserId),
}

/// The place that names of the read model are sealed for.
#[must_use]
pub fn place(field: NameField) -> Place<'static> {
    Place {
        container: "directory",
        event_type: "g1",
        field: field.as_str(),
    }
}

impl ReadModel {
    /// Opens the file, or creates it. Deleted content is overwritten in it.
    ///
    /// # Errors
    /// When the file cannot be opened, or a newer version has written it.
    pub async fn open(path: &Path) -> Result<Self, MigrateError> {
        let pool = database::pool(CONNECTIONS)
            .connect_with(database::rebuildable(path))
            .await?;
        sqlx::migrate!("migrations/directory").run(&pool).await?;
        let options = database::options(path);
        let one = || database::pool(1);
        let durable = one().connect_lazy_with(options.clone());
        let impatient = one().connect_lazy_with(options.busy_timeout(Duration::ZERO));
        Ok(Self {
            pool,
            impatient,
            durable,
        })
    }

    pub(crate) fn pool(&self) -> &SqlitePool {
        &self.pool
    }

    pub(crate) fn impatient(&self) -> &SqlitePool {
        &self.impatient
    }

    pub(crate) fn durable(&self) -> &SqlitePool {
        &self.durable
    }

    /// Runs one cheap query, for readiness.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn check(&self) -> Result<(), sqlx::Error> {
        let look = sqlx::query("SELECT 1 FROM users LIMIT 1");
        look.fetch_optional(&self.pool).await.map(drop)
    }

    /// The revision up to which the user's events are applied. [`ERASED`] for a deleted user, `None` for an unknown one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revision(&self, user: UserId) -> Result<Option<i64>, sqlx::Error> {
        let look = sqlx::query_scalar("SELECT revision FROM users WHERE id = ?");
        let id = i64::try_from(user.number()).unwrap_or(i64::MAX);
        look.bind(id).fetch_optional(&self.pool).await
    }

    /// The users with ids above `after`, at most `limit` of them.
    ///
    /// # Errors
    /// [`PageError`]
    pub async fn page(
        &self,
        keys: &SubjectKeys,
        mut after: Option<UserId>,
        limit: usize,
    ) -> Result<UserPage, PageError> {
        let mut users = Vec::new();
        loop {
            let wanted = limit - users.len();
            // One more than wanted says whether there is another page.
            let mut rows = self.rows(after, wanted + 1).await?;
            let more = rows.len() > wanted;
            rows.truncate(wanted);
            after = rows.last().map(|(id, _)| *id);
            users.extend(open(rows, keys).await?);
            if !more || users.len() == limit {
                let next = after.filter(|_| more);
                return Ok(UserPage { users, next });
            }
        }
    }

    async fn rows(
        &self,
        after: Option<UserId>,
        limit: usize,
    ) -> Result<Vec<(UserId, SealedProfile)>, PageError> {
        let after = after.map_or(-1, |id| i64::try_from(id.number()).unwrap_or(i64::MAX));
        let rows = sqlx::query(
            "SELECT id, key, username, given_name, family_name FROM users
             WHERE id > ? AND key IS NOT NULL ORDER BY id LIMIT ?",
        )
        .bind(after)
        .bind(i64::try_from(limit).unwrap_or(i64::MAX))
        .fetch_all(&self.pool)
        .await?;
        let listed = |row: &SqliteRow| {
            let id = user(row)?;
            Ok((id, profile(row)?.ok_or(PageError::Damaged(id))?))
        };
        rows.iter().map(listed).collect()
    }
}

/// Opens the rows with the current keys of the key store. Leaves out rows whose key is destroyed.
async fn open(
    rows: Vec<(UserId, SealedProfile)>,
    keys: &SubjectKeys,
) -> Result<Vec<ListedUser>, PageError> {
    let ids: Vec<KeyId> = rows.iter().map(|(_, profile)| profile.key).collect();
    let keys = keys.find_many(&ids).await?;
    let mut users = Vec::new();
    for (id, profile) in rows {
        match keys.get(&profile.key) {
            Some(Lookup::Found(key)) => users.push(ListedUser {
                id,
                names: open_names(&profile, key).map_err(|_| PageError::Damaged(id))?,
            }),
            Some(Lookup::Destroyed) => {}
            Some(Lookup::Missing) | None => return Err(PageError::KeyLost(profile.key)),
        }
    }
    Ok(users)
}

fn open_names(
    profile: &SealedProfile,
    key: &SubjectKey,
) -> Result<BTreeMap<NameField, Personal<String>>, DoesNotOpen> {
    let open =
        |(&field, sealed): (&NameField, &Sealed)| Ok((field, key.open(place(field), sealed)?));
    profile.names.iter().map(open).collect()
}

pub(crate) fn user(row: &SqliteRow) -> Result<UserId, sqlx::Error> {
    let id: i64 = row.try_get("id")?;
    Ok(UserId::new(u64::try_from(id).map_err(decode)?))
}

/// The data of a row, if it has any.
pub(crate) fn profile(row: &SqliteRow) -> Result<Option<SealedProfile>, sqlx::Error> {
    let Some(key) = row.try_get::<Option<String>, _>("key")? else {
        return Ok(None);
    };
    let mut names = BTreeMap::new();
    for field in NameField::ALL {
        let sealed: String = row.try_get(field.as_str())?;
        let sealed = serde_json::from_value(sealed.into()).map_err(decode)?;
        names.insert(field, sealed);
    }
    let key = key.parse().map_err(decode)?;
    Ok(Some(SealedProfile { key, names }))
}

pub(crate) fn decode(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}

#[cfg(test)]
mod tests {
    use super::ReadModel;

    #[tokio::test]
    async fn rows_are_flushed_later_and_attempts_and_erasures_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let model = ReadModel::open(&folder.path().join("directory.db")).await;
        let model = model.unwrap();
        let (normal, full) = (1_i64, 2);
        let pools = [
            (model.pool(), normal),
            (model.durable(), full),
            (model.impatient(), full),
        ];
        for (pool, expected) in pools {
            let read = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool);
            let synchronous: i64 = read.await.unwrap();
            assert_eq!(synchronous, expected);
        }
    }
}
