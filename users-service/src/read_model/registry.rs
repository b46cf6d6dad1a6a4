//! Which generations the read models have, and which of them readers use.
//!
//! Invariants:
//! - A read model has at most one generation that is being built, and at most one that readers use.
//! - Readers change from one generation to the next in one transaction.

use super::{Projection, decode_error, number, positive};
use crate::database::{Database, Databases, Durability};
use sqlx::any::AnyRow;
use sqlx::{AnyConnection, AnyPool, Row as _};
use std::sync::Arc;
use tokio::sync::OnceCell;

/// The name of the database.
const NAME: &str = "read_models";

const SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS generations (
        read_model TEXT NOT NULL,
        number BIGINT NOT NULL,
        version BIGINT NOT NULL,
        partitions BIGINT NOT NULL,
        state TEXT NOT NULL,
        since BIGINT NOT NULL,
        PRIMARY KEY (read_model, number)
    )";

/// The list of generations. It is opened when it is needed. Clones share it.
#[derive(Debug, Clone)]
pub struct Registry {
    databases: Databases,
    opened: Arc<OnceCell<Database>>,
}

/// A generation of a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GenerationRecord {
    /// The number, from 1.
    pub number: u32,
    /// The version of the tables and of what is kept in them.
    pub version: u32,
    /// The number of queues.
    pub partitions: u32,
    /// What it is used for.
    pub state: GenerationState,
    /// Since when, in milliseconds since the Unix epoch.
    pub since: u64,
}

/// What a generation is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GenerationState {
    /// It is made from the log.
    Building,
    /// Readers use it.
    Current,
    /// Readers used it. It is going to be deleted.
    Retired,
}

const STATES: [(&str, GenerationState); 3] = [
    ("building", GenerationState::Building),
    ("current", GenerationState::Current),
    ("retired", GenerationState::Retired),
];

impl Registry {
    /// The list in this place.
    #[must_use]
    pub fn new(databases: Databases) -> Self {
        Self {
            databases,
            opened: Arc::default(),
        }
    }

    /// The place of the list and of all generations.
    #[must_use]
    pub fn databases(&self) -> &Databases {
        &self.databases
    }

    async fn database(&self) -> Result<&Database, sqlx::Error> {
        let open = || async {
            let database = self.databases.open(NAME, Durability::AtOnce).await?;
            sqlx::raw_sql(SCHEMA).execute(database.pool()).await?;
            Ok(database)
        };
        self.opened.get_or_try_init(open).await
    }

    async fn pool(&self) -> Result<&AnyPool, sqlx::Error> {
        Ok(self.database().await?.pool())
    }

    /// The generations of a read model, in the order of their numbers.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn generations(
        &self,
        read_model: &str,
    ) -> Result<Vec<GenerationRecord>, sqlx::Error> {
        let mut connection = self.pool().await?.acquire().await?;
        generations(&mut connection, read_model).await
    }

    /// Begins another generation, unless one is being built. Returns the one that is being built now.
    ///
    /// # Errors
    /// If the database fails, or another process begins one at the same time.
    pub async fn begin(
        &self,
        projection: &dyn Projection,
        partitions: u32,
        now: u64,
    ) -> Result<GenerationRecord, sqlx::Error> {
        let mut transaction = self.database().await?.begin().await?;
        let all = generations(&mut transaction, projection.name()).await?;
        let mut building = all
            .iter()
            .filter(|one| one.state == GenerationState::Building);
        if let Some(building) = building.next() {
            return Ok(*building);
        }
        let begun = GenerationRecord {
            number: all.last().map_or(1, |last| last.number + 1),
            version: projection.version(),
            partitions,
            state: GenerationState::Building,
            since: now,
        };
        let insert = sqlx::query(
            "INSERT INTO generations (read_model, number, version, partitions, state, since)
             VALUES ($1, $2, $3, $4, 'building', $5)",
        );
        let insert = insert
            .bind(projection.name())
            .bind(i64::from(begun.number))
            .bind(i64::from(begun.version))
            .bind(i64::from(begun.partitions))
            .bind(number(now));
        insert.execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(begun)
    }

    /// Lets readers use the generation that was built. Does nothing if it is not being built any more.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn switch(&self, read_model: &str, built: u32, now: u64) -> Result<(), sqlx::Error> {
        let mut transaction = self.database().await?.begin().await?;
        let all = generations(&mut transaction, read_model).await?;
        let is_built =
            |one: &GenerationRecord| one.number == built && one.state == GenerationState::Building;
        if !all.iter().any(is_built) {
            return Ok(());
        }
        for statement in [
            "UPDATE generations SET state = 'retired', since = $3
             WHERE read_model = $1 AND number < $2 AND state = 'current'",
            "UPDATE generations SET state = 'current', since = $3
             WHERE read_model = $1 AND number = $2",
        ] {
            let update = sqlx::query(statement).bind(read_model);
            let update = update.bind(i64::from(built)).bind(number(now));
            update.execute(&mut *transaction).await?;
        }
        transaction.commit().await
    }

    /// Forgets a retired generation, because it is deleted.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn forget(&self, read_model: &str, retired: u32) -> Result<(), sqlx::Error> {
        let forget = sqlx::query(
            "DELETE FROM generations WHERE read_model = $1 AND number = $2 AND state = 'retired'",
        );
        let forget = forget.bind(read_model).bind(i64::from(retired));
        forget.execute(self.pool().await?).await.map(drop)
    }
}

async fn generations(
    connection: &mut AnyConnection,
    read_model: &str,
) -> Result<Vec<GenerationRecord>, sqlx::Error> {
    let find = sqlx::query(
        "SELECT number, version, partitions, state, since FROM generations
         WHERE read_model = $1 ORDER BY number",
    );
    let rows = find.bind(read_model).fetch_all(connection).await?;
    rows.iter().map(record).collect()
}

fn record(row: &AnyRow) -> Result<GenerationRecord, sqlx::Error> {
    let small = |column| u32::try_from(positive(row, column)?).map_err(decode_error);
    let state: String = row.try_get("state")?;
    let state = STATES.into_iter().find(|(name, _)| *name == state);
    Ok(GenerationRecord {
        number: small("number")?,
        version: small("version")?,
        partitions: small("partitions")?,
        // What a newer version calls otherwise is not touched.
        state: state.map_or(GenerationState::Retired, |(_, state)| state),
        since: positive(row, "since")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::read_model::Statistics;
    use GenerationState::{Building, Current, Retired};

    async fn states(registry: &Registry) -> Vec<(u32, GenerationState)> {
        let all = registry.generations("statistics").await.unwrap();
        all.iter().map(|one| (one.number, one.state)).collect()
    }

    #[tokio::test]
    async fn a_generation_is_built_then_used_then_retired_and_forgotten() {
        let folder = tempfile::tempdir().unwrap();
        let registry = Registry::new(Databases::Folder(folder.path().to_owned()));
        assert_eq!(states(&registry).await, []);
        for _ in 0..2 {
            let begun = registry.begin(&Statistics, 3, 5).await.unwrap();
            assert_eq!((begun.number, begun.partitions, begun.since), (1, 3, 5));
        }
        registry.switch("statistics", 1, 6).await.unwrap();
        assert_eq!(states(&registry).await, [(1, Current)]);
        registry.begin(&Statistics, 1, 7).await.unwrap();
        assert_eq!(states(&registry).await, [(1, Current), (2, Building)]);
        for built in [1, 2, 3] {
            registry.switch("statistics", built, 8).await.unwrap();
        }
        assert_eq!(states(&registry).await, [(1, Retired), (2, Current)]);
        for number in [1, 2] {
            registry.forget("statistics", number).await.unwrap();
        }
        assert_eq!(states(&registry).await, [(2, Current)]);
        assert_eq!(registry.generations("directory").await.unwrap(), []);
    }
}
