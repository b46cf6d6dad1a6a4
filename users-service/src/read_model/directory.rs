//! The read model `directory`: the users that are not deleted, in the order of their creation, found by their names.
//!
//! Invariants:
//! - Names are sealed under the users' keys, and search terms are keyed hashes. So when a key is destroyed, the user vanishes
//!   from every copy and backup of this read model.
//! - A user whose key is destroyed is in no page. Keys are looked up after the rows were read, and are not cached.

mod page;
mod row;
mod tables;

pub use page::{DirectoryPage, ListedUser, PageError, PagePlace, PageRequest};

use super::{Generation, Projection, UserChanges};
use crate::privacy::search_secret::SearchSecret;
use futures::future::{BoxFuture, FutureExt as _};
use sqlx::AnyConnection;
use std::collections::BTreeMap;

/// What the read model is made with.
#[derive(Debug, Clone)]
pub struct Directory {
    secret: SearchSecret,
}

impl Directory {
    /// Makes search terms under this secret.
    #[must_use]
    pub fn new(secret: SearchSecret) -> Self {
        Self { secret }
    }
}

impl Projection for Directory {
    fn name(&self) -> &'static str {
        "directory"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../tables/directory.sql")
    }

    fn tables_of_users(&self) -> &'static [&'static str] {
        &["users", "terms"]
    }

    fn apply<'a>(
        &'a self,
        generation: &'a Generation,
        transaction: &'a mut AnyConnection,
        changes: &'a [UserChanges<'a>],
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        async move {
            let dialect = generation.database().dialect();
            let changes = changes.iter().filter(|changes| row::concerns(changes));
            let changes: Vec<_> = changes.collect();
            let known = changes.iter().filter(|changes| row::may_exist(changes));
            let known = known.map(|changes| changes.user).collect::<Vec<_>>();
            let before = tables::load(dialect, transaction, &known).await?;
            let mut after = BTreeMap::new();
            let making = row::Making {
                secret: &self.secret,
                generation: generation.number(),
            };
            for changes in changes {
                let row = before.get(&changes.user).cloned();
                after.insert(changes.user, making.evolve(row, changes));
            }
            tables::write(dialect, transaction, &before, &after).await
        }
        .boxed()
    }
}
