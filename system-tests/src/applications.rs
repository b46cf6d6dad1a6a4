//! Notes every application of an event to the ledger of the read model, by triggers in its database.
//!
//! Invariant: an application is noted in the transaction that makes it, so a killed projector neither hides nor invents one.

use anyhow::{Result, ensure};
use sqlx::SqlitePool;
use std::fmt::{self, Display, Formatter};
use std::path::Path;

const NOTE: [&str; 4] = [
    "CREATE TABLE observed (id INTEGER NOT NULL, revision INTEGER NOT NULL)",
    "CREATE INDEX observed_by_user ON observed (id, revision)",
    "CREATE TRIGGER observed_new AFTER INSERT ON ledger
     BEGIN INSERT INTO observed VALUES (NEW.id, NEW.revision); END",
    "CREATE TRIGGER observed_changed AFTER UPDATE ON ledger
     BEGIN INSERT INTO observed VALUES (NEW.id, NEW.revision); END",
];

const TWICE: &str = "SELECT count(*) FROM
    (SELECT 1 FROM observed GROUP BY id, revision HAVING count(*) > 1)";

const BACKWARDS: &str = "SELECT count(*) FROM observed AS later WHERE EXISTS
    (SELECT 1 FROM observed AS earlier WHERE earlier.id = later.id
        AND earlier.revision > later.revision AND earlier.rowid < later.rowid)";

/// The notes beside the ledger.
#[derive(Debug)]
pub struct Applications(SqlitePool);

/// What is wrong with the applications.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ApplicationCounts {
    /// Events that were applied more than once.
    pub twice: i64,
    /// Applications after one of a later event of the same user.
    pub backwards: i64,
}

impl Applications {
    /// Begins to note, in the database file of the list.
    pub async fn note(file: &Path) -> Result<Self> {
        let pool = SqlitePool::connect(&format!("sqlite:{}", file.display())).await?;
        for statement in NOTE {
            sqlx::query(statement).execute(&pool).await?;
        }
        Ok(Self(pool))
    }

    /// Counts what is wrong so far.
    pub async fn counts(&self) -> Result<ApplicationCounts> {
        Ok(ApplicationCounts {
            twice: sqlx::query_scalar(TWICE).fetch_one(&self.0).await?,
            backwards: sqlx::query_scalar(BACKWARDS).fetch_one(&self.0).await?,
        })
    }

    /// The control: applies the last event of one user again, takes another user back to an earlier event, and checks that
    /// both are counted. It damages the read model.
    pub async fn check_with_planted_faults(&self) -> Result<()> {
        let before = self.counts().await?;
        for planted in [
            "UPDATE ledger SET revision = revision WHERE id = (SELECT min(id) FROM observed)",
            "UPDATE ledger SET revision = -1 WHERE id = (SELECT max(id) FROM observed)",
        ] {
            sqlx::query(planted).execute(&self.0).await?;
        }
        let found = self.counts().await?;
        let expected = ApplicationCounts {
            twice: before.twice + 1,
            backwards: before.backwards + 1,
        };
        ensure!(found == expected, "planted faults: {found}");
        Ok(())
    }
}

impl Display for ApplicationCounts {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        let Self { twice, backwards } = self;
        write!(
            formatter,
            "applied twice {twice}, applied backwards {backwards}"
        )
    }
}
