//! One generation of a read model: its database, with the tables of the ledger and those of its projection.
//!
//! Invariants: tables are never changed. Other tables are another generation, made from the log.

use super::rewriting::unsampled;
use super::{Projection, number, positive};
use crate::database::server_log::{self, LogError};
use crate::database::{Database, Databases, Dialect, Durability};
use crate::domain::UserId;
use crate::integration::consumer::ReaderQueues;
use sqlx::{AnyPool, AssertSqlSafe};

const LEDGER: &str = include_str!("../../tables/ledger.sql");

/// An opened generation. Clones share its connections.
#[derive(Debug, Clone)]
pub struct Generation {
    databases: Databases,
    /// The name of the database.
    name: String,
    read_model: &'static str,
    number: u32,
    partitions: u32,
    database: Database,
    /// One connection that applies events.
    writing: Database,
    /// One connection that never waits for a lock, for statements that would keep others waiting.
    impatient: Database,
    /// One connection whose commits are flushed, for data that the log cannot restore.
    durable: Database,
}

impl Generation {
    /// Opens the generation with this number and so many queues, and creates what is missing.
    ///
    /// # Errors
    /// When the database cannot be opened.
    pub async fn open(
        databases: &Databases,
        projection: &dyn Projection,
        number: (u32, u32),
    ) -> Result<Self, sqlx::Error> {
        let generation = Self::lazy(databases, projection, number)?;
        generation.create(projection).await?;
        Ok(generation)
    }

    /// The generation with this number and so many queues. It connects when it is used, and fails until a projector has created
    /// its tables.
    ///
    /// # Errors
    /// When the place of the database is malformed.
    pub fn lazy(
        databases: &Databases,
        projection: &dyn Projection,
        (number, partitions): (u32, u32),
    ) -> Result<Self, sqlx::Error> {
        let read_model = projection.name();
        let name = format!("{read_model}_g{number}");
        Ok(Self {
            read_model,
            number,
            partitions,
            database: databases.lazy(&name, Durability::Later)?,
            writing: databases.writing(&name)?,
            impatient: databases.impatient(&name)?,
            durable: databases.durable(&name)?,
            databases: databases.clone(),
            name,
        })
    }

    /// Deletes the database, and on a server the log that has its rows.
    ///
    /// # Errors
    /// When that fails. It can be repeated.
    pub(crate) async fn delete(&self) -> Result<(), LogError> {
        self.databases.delete(&self.name).await?;
        if self.database.dialect() == Dialect::Postgres {
            server_log::discard(&self.database).await?;
        }
        Ok(())
    }

    /// Creates what is missing.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn create(&self, projection: &dyn Projection) -> Result<(), sqlx::Error> {
        self.databases.create(&self.name).await?;
        // In a file a table is stored in the order of its primary key; in PostgreSQL it cannot be.
        let clustered = match self.database.dialect() {
            Dialect::Sqlite => "WITHOUT ROWID",
            Dialect::Postgres => "",
        };
        for schema in [LEDGER, projection.schema()] {
            let schema = AssertSqlSafe(schema.replace("{clustered}", clustered));
            sqlx::raw_sql(schema).execute(self.pool()).await?;
        }
        if self.database.dialect() == Dialect::Postgres {
            let unsampled = AssertSqlSafe(unsampled(projection.tables_of_users()));
            sqlx::raw_sql(unsampled).execute(self.pool()).await?;
        }
        Ok(())
    }

    /// The name of the read model.
    #[must_use]
    pub fn read_model(&self) -> &'static str {
        self.read_model
    }

    /// The number of the generation, from 1.
    #[must_use]
    pub fn number(&self) -> u32 {
        self.number
    }

    /// The queues that its messages come from.
    #[must_use]
    pub fn queues(&self) -> ReaderQueues {
        ReaderQueues {
            read_model: self.read_model,
            generation: self.number,
            partitions: self.partitions,
        }
    }

    pub(crate) fn database(&self) -> &Database {
        &self.database
    }

    pub(crate) fn pool(&self) -> &AnyPool {
        self.database.pool()
    }

    pub(crate) fn writing(&self) -> &Database {
        &self.writing
    }

    pub(crate) fn impatient(&self) -> &AnyPool {
        self.impatient.pool()
    }

    pub(crate) fn durable(&self) -> &AnyPool {
        self.durable.pool()
    }

    /// The revision up to which the user's events are applied. [`ERASED`](super::ERASED) for a deleted user, `None` for an unknown
    /// one.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn revision(&self, user: UserId) -> Result<Option<u64>, sqlx::Error> {
        let look = sqlx::query("SELECT revision FROM ledger WHERE id = $1");
        let look = look.bind(number(user.number()));
        let row = look.fetch_optional(self.pool()).await?;
        row.map(|row| positive(&row, "revision")).transpose()
    }

    /// How far it was compared with the log: the commit position, and the number of events until there. `None` if nothing is
    /// compared yet.
    ///
    /// # Errors
    /// When the database fails, also if there are no tables yet.
    pub async fn progress(&self) -> Result<Option<(u64, u64)>, sqlx::Error> {
        let look = sqlx::query("SELECT commit_position, events FROM completeness");
        let row = look.fetch_optional(self.pool()).await?;
        let progress = |row| {
            Ok((
                positive(&row, "commit_position")?,
                positive(&row, "events")?,
            ))
        };
        row.map(progress).transpose()
    }

    /// Runs one cheap query, for readiness.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn check(&self) -> Result<(), sqlx::Error> {
        let look = sqlx::query("SELECT 1 FROM ledger LIMIT 1");
        look.fetch_optional(self.pool()).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::privacy::search_secret::SearchSecret;
    use crate::read_model::Directory;

    #[tokio::test]
    async fn rows_are_flushed_later_and_attempts_and_erasures_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let databases = Databases::Folder(folder.path().to_owned());
        let directory = Directory::new(SearchSecret::of(&"07".repeat(32).parse().unwrap()));
        let generation = Generation::open(&databases, &directory, (1, 4))
            .await
            .unwrap();
        let (normal, full) = (1_i64, 2);
        let pools = [
            (generation.pool(), normal),
            (generation.durable(), full),
            (generation.impatient(), full),
        ];
        for (pool, expected) in pools {
            let read = sqlx::query_scalar("PRAGMA synchronous").fetch_one(pool);
            let synchronous: i64 = read.await.unwrap();
            assert_eq!(synchronous, expected);
        }
    }
}
