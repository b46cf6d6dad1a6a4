//! Read models: what is kept of the users' events, and its queries.
//!
//! A [`Projection`] says what a read model keeps. It does not know messages, streams, retries or revisions: the ledger in
//! `projection` gives it each event of a user once, in order, within the transaction that writes the ledger. So another read
//! model is one file here, with its tables.

mod current;
mod directory;
mod generation;
mod proven_event;
mod registry;
mod rewriting;
mod search_terms;
mod statistics;

pub use current::{CurrentGeneration, GenerationFollower};
pub use directory::{Directory, DirectoryPage, ListedUser, PageError, PagePlace, PageRequest};
pub use generation::Generation;
pub use proven_event::{ERASED, OpenedNames, ProvenChange, ProvenEvent};
pub use registry::{GenerationRecord, GenerationState, Registry};
pub use search_terms::{NameFilter, PREFIX_LENGTH};
pub use statistics::{Statistics, StatisticsError, WindowCount, WindowRange, WindowSize};

pub(crate) use rewriting::rewriting;

use crate::domain::UserId;
use futures::future::BoxFuture;
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, Row as _};
use std::fmt::Debug;

/// What a read model keeps of the users' events.
pub trait Projection: Debug + Send + Sync {
    /// The name of the read model, in lowercase letters. It names its queues and its database.
    fn name(&self) -> &'static str;

    /// The version of its tables and of what it keeps in them. Another version is made from the log.
    fn version(&self) -> u32 {
        1
    }

    /// The statements that create its tables, if they are missing. `{clustered}` ends each table.
    fn schema(&self) -> &'static str;

    /// Those of its tables that have rows of single users.
    fn tables_of_users(&self) -> &'static [&'static str];

    /// Whether it keeps something of deleted users, and so reads what is counted of them.
    fn reads_counts(&self) -> bool {
        false
    }

    /// Writes what the events change, in the transaction of the ledger.
    ///
    /// # Errors
    /// If the database fails. The transaction is rolled back.
    fn apply<'a>(
        &'a self,
        generation: &'a Generation,
        transaction: &'a mut AnyConnection,
        changes: &'a [UserChanges<'a>],
    ) -> BoxFuture<'a, Result<(), sqlx::Error>>;
}

/// The next events of one user.
#[derive(Debug, Clone)]
pub struct UserChanges<'a> {
    /// The user.
    pub user: UserId,
    /// Whether the events begin with the user's first one, and replace what is kept of the user.
    pub anew: bool,
    /// The events, in order.
    pub events: Vec<&'a ProvenEvent>,
}

/// The user of a row, in column `id`.
pub(crate) fn user(row: &AnyRow) -> Result<UserId, sqlx::Error> {
    Ok(UserId::new(positive(row, "id")?))
}

/// A number in a column that is not negative.
pub(crate) fn positive(row: &AnyRow, column: &str) -> Result<u64, sqlx::Error> {
    let number: i64 = row.try_get(column)?;
    u64::try_from(number).map_err(decode_error)
}

/// A number for a column. Ids, revisions and times above `i64::MAX` are refused before they come here.
pub(crate) fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

pub(crate) fn decode_error(error: impl std::error::Error + Send + Sync + 'static) -> sqlx::Error {
    sqlx::Error::Decode(Box::new(error))
}
