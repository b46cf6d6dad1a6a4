//! The database of the keys and its schema. It opens when it is first used.
//!
//! Invariant: a database that is handed out has the schema, suits ([`requirements`]), and has no keys that this master key does
//! not unwrap.

use super::partitions::{BYTES, PARTITIONS};
use super::{KeysError, MasterKey, key_id, requirements, unwrap};
use crate::database::{Database, Databases, Dialect, Durability};
use sqlx::error::DatabaseError;
use sqlx::{AssertSqlSafe, Error};
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::OnceCell;

/// How long a call waits for the database to open.
const OPENING: Duration = Duration::from_secs(5);

const SQLITE_SCHEMA: &str = "
    CREATE TABLE IF NOT EXISTS keys (id BLOB PRIMARY KEY, wrapped BLOB NOT NULL) WITHOUT ROWID;
    CREATE TABLE IF NOT EXISTS destroyed (id BLOB PRIMARY KEY) WITHOUT ROWID;";

/// The database of the keys. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct KeyDatabase(Arc<Opening>);

#[derive(Debug)]
struct Opening {
    databases: Databases,
    master: MasterKey,
    opened: OnceCell<Database>,
}

impl KeyDatabase {
    pub(super) fn new(databases: Databases, master: MasterKey) -> Self {
        Self(Arc::new(Opening {
            databases,
            master,
            opened: OnceCell::new(),
        }))
    }

    pub(super) fn master(&self) -> &MasterKey {
        &self.0.master
    }

    /// The database, which is opened now if it is not yet.
    pub(super) async fn get(&self) -> Result<&Database, KeysError> {
        let opened = self.0.opened.get_or_try_init(|| self.open());
        match tokio::time::timeout(OPENING, opened).await {
            Ok(opened) => opened,
            Err(_) => Err(Error::PoolTimedOut.into()),
        }
    }

    /// Whether this failure to open the database may pass by itself, because a server is away.
    pub(super) fn may_open_later(&self, error: &KeysError) -> bool {
        let KeysError::Database(error) = error else {
            return false;
        };
        // Shutting down, starting up, too many connections.
        let passing = |code: &str| code.starts_with("57P") || code == "53300";
        let code = error.as_database_error().and_then(DatabaseError::code);
        // Invalid data is a certificate that is not trusted.
        let is_away = |error: &std::io::Error| error.kind() != ErrorKind::InvalidData;
        let away = matches!(error, Error::PoolTimedOut)
            || matches!(error, Error::Io(error) if is_away(error));
        self.0.databases.dialect() == Dialect::Postgres
            && (away || code.is_some_and(|code| passing(&code)))
    }

    async fn open(&self) -> Result<Database, KeysError> {
        let dialect = self.0.databases.dialect();
        let (name, schema) = match dialect {
            Dialect::Sqlite => ("keys", SQLITE_SCHEMA.to_owned()),
            Dialect::Postgres => ("subject_keys", postgres_schema()),
        };
        let databases = &self.0.databases;
        let database = databases.open(name, Durability::AtOnce).await?;
        if dialect == Dialect::Postgres {
            requirements::check(&database).await?;
        }
        sqlx::raw_sql(AssertSqlSafe(schema))
            .execute(database.pool())
            .await?;
        self.check_master_key(&database).await?;
        Ok(database)
    }

    /// Refuses a master key that does not unwrap the stored keys, before another key is wrapped with it.
    async fn check_master_key(&self, database: &Database) -> Result<(), KeysError> {
        let any: Option<(Vec<u8>, Vec<u8>)> =
            sqlx::query_as("SELECT id, wrapped FROM keys LIMIT 1")
                .fetch_optional(database.pool())
                .await?;
        match any {
            Some((id, wrapped)) => unwrap(self.master(), key_id(&id)?, &wrapped).map(drop),
            None => Ok(()),
        }
    }
}

/// The schema, as one statement. Processes that start at the same time create it one after the other. Statistics about wrapped
/// keys would be copies of some, and a plain storage needs no further table for long values.
fn postgres_schema() -> String {
    let last = PARTITIONS - 1;
    format!(
        "DO $$ BEGIN
             PERFORM pg_advisory_xact_lock(hashtext('subject_keys'));
             IF to_regclass('keys') IS NOT NULL THEN RETURN; END IF;
             CREATE FUNCTION unhex(text) RETURNS bytea LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
                 AS 'SELECT decode($1, ''hex'')';
             CREATE TABLE destroyed (id bytea PRIMARY KEY);
             CREATE TABLE keys (id bytea PRIMARY KEY, wrapped bytea NOT NULL) PARTITION BY RANGE (id);
             ALTER TABLE keys ALTER id SET STORAGE PLAIN, ALTER wrapped SET STORAGE PLAIN,
                 ALTER wrapped SET STATISTICS 0;
             FOR n IN 0..{last} LOOP
                 EXECUTE format('CREATE TABLE keys_%s PARTITION OF keys FOR VALUES FROM (%s) TO (%s)', n,
                     CASE n WHEN 0 THEN 'MINVALUE' ELSE quote_literal(set_byte('\\x00', 0, n * {BYTES})) END,
                     CASE n WHEN {last} THEN 'MAXVALUE' ELSE quote_literal(set_byte('\\x00', 0, n * {BYTES} + {BYTES})) END);
                 EXECUTE format('ALTER TABLE keys_%s ALTER wrapped SET STATISTICS 0', n);
             END LOOP;
         END $$"
    )
}
