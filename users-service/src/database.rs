//! The databases of this service: SQLite files in one folder, or schemas of one PostgreSQL database.
//!
//! Invariant: a statement is written once for both. Its parameters are `$1`, `$2`…; a set of rows is one parameter, the text of a
//! JSON array of arrays (`rows_of`). What only one of the two can do is asked for by [`Dialect`].

pub(crate) mod server_log;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{Any, AnyConnection, AnyPool, AssertSqlSafe, Connection as _, Row as _, Transaction};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::time::Duration;

/// The number of connections to one database.
const CONNECTIONS: u32 = 4;

/// How long a statement waits for a connection, also while the server is away.
const ACQUIRE: Duration = Duration::from_secs(5);

/// The place of all databases.
#[derive(Clone)]
pub enum Databases {
    /// SQLite files in this folder.
    Folder(PathBuf),
    /// A PostgreSQL database, with this URL.
    Postgres(String),
}

/// The kind of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// A SQLite file.
    Sqlite,
    /// A schema of a PostgreSQL database.
    Postgres,
}

/// When a commit is on the disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durability {
    /// When it returns.
    AtOnce,
    /// Some time later, in a file. A crash of the machine takes the database back to an earlier commit. For data that the log restores
    /// when the process starts again.
    Later,
}

/// A pool of connections to one database. Clones share them.
#[derive(Debug, Clone)]
pub struct Database {
    dialect: Dialect,
    pool: AnyPool,
}

/// A statement with a text for each dialect.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Statement {
    pub(crate) sqlite: &'static str,
    pub(crate) postgres: &'static str,
}

/// A [`Statement`] over the rows of its first parameter, a JSON array of arrays. Column `n` of a row is `value ->> n`.
macro_rules! over_rows {
    ($before:literal, ROWS, $after:literal) => {
        $crate::database::Statement {
            sqlite: concat!($before, "json_each($1)", $after),
            postgres: concat!($before, "json_array_elements($1::json)", $after),
        }
    };
}
pub(crate) use over_rows;

/// The parameter of [`over_rows`].
pub(crate) fn rows_of(rows: Vec<serde_json::Value>) -> String {
    serde_json::Value::from(rows).to_string()
}

/// The parameter of [`over_rows`] for rows of one number.
pub(crate) fn rows_of_numbers(numbers: impl Iterator<Item = i64>) -> String {
    rows_of(numbers.map(|number| [number].into()).collect())
}

/// Executes statements over their rows, in this order. A statement without rows is left out.
pub(crate) async fn write_rows<const N: usize>(
    dialect: Dialect,
    connection: &mut AnyConnection,
    statements: [(Statement, Vec<serde_json::Value>); N],
) -> Result<(), sqlx::Error> {
    for (statement, rows) in statements {
        if !rows.is_empty() {
            let write = sqlx::query(dialect.text(statement)).bind(rows_of(rows));
            write.execute(&mut *connection).await?;
        }
    }
    Ok(())
}

/// Empties the write-ahead log of a SQLite file, which contains older versions of pages. Returns false if readers keep it.
pub(crate) async fn empty_log(file: &AnyPool) -> Result<bool, sqlx::Error> {
    let emptied = sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)")
        .fetch_one(file)
        .await?;
    Ok(emptied.try_get::<i64, _>(0)? == 0)
}

impl fmt::Debug for Databases {
    /// Leaves out the URL, which may have a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Folder(folder) => f.debug_tuple("Folder").field(folder).finish(),
            Self::Postgres(_) => f.write_str("Postgres"),
        }
    }
}

impl Databases {
    /// The kind of all databases.
    #[must_use]
    pub fn dialect(&self) -> Dialect {
        match self {
            Self::Folder(_) => Dialect::Sqlite,
            Self::Postgres(_) => Dialect::Postgres,
        }
    }

    /// Opens the database of this name, or creates it: the file `<name>.db`, or the schema `<name>`. Deleted content is
    /// overwritten in a file. A name has lowercase letters, digits and underscores.
    ///
    /// # Errors
    /// If the database cannot be opened.
    pub(crate) async fn open(
        &self,
        name: &str,
        durability: Durability,
    ) -> Result<Database, sqlx::Error> {
        self.create(name).await?;
        let database = self.lazy(name, durability)?;
        database.pool.acquire().await?;
        Ok(database)
    }

    /// Creates the schema, if it is missing. A file is created when it is opened.
    ///
    /// # Errors
    /// If the server fails.
    pub(crate) async fn create(&self, name: &str) -> Result<(), sqlx::Error> {
        match self {
            Self::Folder(_) => Ok(()),
            Self::Postgres(url) => create_schema(url, name).await,
        }
    }

    /// Deletes the file or the schema, if it exists.
    ///
    /// # Errors
    /// If that fails.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), sqlx::Error> {
        match self {
            Self::Folder(folder) => {
                for suffix in ["", "-wal", "-shm"] {
                    match std::fs::remove_file(folder.join(format!("{name}.db{suffix}"))) {
                        Err(error) if error.kind() != ErrorKind::NotFound => {
                            return Err(error.into());
                        }
                        Ok(()) | Err(_) => {}
                    }
                }
                Ok(())
            }
            Self::Postgres(url) => {
                let drop = format!("DROP SCHEMA IF EXISTS {name} CASCADE");
                execute(url, drop).await
            }
        }
    }

    /// Like [`open`](Self::open), but connects when it is used.
    pub(crate) fn lazy(&self, name: &str, durability: Durability) -> Result<Database, sqlx::Error> {
        self.lazy_with(name, &sqlite_settings(durability, PATIENT), CONNECTIONS)
    }

    /// One connection whose commits are flushed.
    pub(crate) fn durable(&self, name: &str) -> Result<Database, sqlx::Error> {
        self.lazy_with(name, &sqlite_settings(Durability::AtOnce, PATIENT), 1)
    }

    /// One connection that never waits for a lock, for statements that would keep others waiting.
    pub(crate) fn impatient(&self, name: &str) -> Result<Database, sqlx::Error> {
        self.lazy_with(name, &sqlite_settings(Durability::AtOnce, IMPATIENT), 1)
    }

    /// One connection for nearly all that is written. A SQLite connection forgets the pages that it knows when another one has
    /// written; this one need not, and knows many.
    pub(crate) fn writing(&self, name: &str) -> Result<Database, sqlx::Error> {
        let settings = sqlite_settings(Durability::Later, PATIENT);
        self.lazy_with(name, &format!("{settings}{MANY_PAGES}"), 1)
    }

    fn lazy_with(
        &self,
        name: &str,
        sqlite_settings: &str,
        connections: u32,
    ) -> Result<Database, sqlx::Error> {
        let settings = match self {
            Self::Folder(_) => sqlite_settings.to_owned(),
            Self::Postgres(_) => postgres_settings(name),
        };
        self.connect_lazy(name, settings, connections)
    }

    fn connect_lazy(
        &self,
        name: &str,
        settings: String,
        connections: u32,
    ) -> Result<Database, sqlx::Error> {
        install_drivers();
        let url = match self {
            Self::Folder(folder) => file_url(&folder.join(format!("{name}.db")))?,
            Self::Postgres(url) => url.clone(),
        };
        let pool = AnyPoolOptions::new()
            .max_connections(connections)
            .acquire_timeout(ACQUIRE);
        let pool = pool.after_connect(move |connection, _| {
            let settings = AssertSqlSafe(settings.clone());
            Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
        });
        let pool = pool.after_release(|connection, _| Box::pin(is_usable(connection)));
        let options: AnyConnectOptions = url.parse()?;
        Ok(Database {
            dialect: self.dialect(),
            pool: pool.connect_lazy_with(options),
        })
    }
}

impl Database {
    pub(crate) fn pool(&self) -> &AnyPool {
        &self.pool
    }

    pub(crate) fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// The text of the statement for this database.
    pub(crate) fn text(&self, statement: Statement) -> &'static str {
        self.dialect.text(statement)
    }

    /// Begins a transaction that writes. In a file it is the only one.
    pub(crate) async fn begin(&self) -> Result<Transaction<'static, Any>, sqlx::Error> {
        let begin = self.text(Statement {
            sqlite: "BEGIN IMMEDIATE",
            postgres: "BEGIN",
        });
        self.pool.begin_with(begin).await
    }
}

impl Dialect {
    /// The text of the statement for this kind of database.
    pub(crate) fn text(self, statement: Statement) -> &'static str {
        match self {
            Self::Sqlite => statement.sqlite,
            Self::Postgres => statement.postgres,
        }
    }
}

fn install_drivers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(sqlx::any::install_default_drivers);
}

/// How long a statement waits for a lock, in milliseconds.
const PATIENT: u32 = 5_000;
const IMPATIENT: u32 = 0;

/// The pages of a SQLite connection take at most 32 MiB of memory instead of 2.
const MANY_PAGES: &str = "PRAGMA cache_size = -32768;";

/// The settings of a connection to a file. Deleted content is overwritten. On macOS a plain fsync leaves the bytes in the
/// disk's cache; elsewhere the last two change nothing.
fn sqlite_settings(durability: Durability, timeout: u32) -> String {
    let synchronous = match durability {
        Durability::AtOnce => "FULL",
        Durability::Later => "NORMAL",
    };
    format!(
        "PRAGMA busy_timeout = {timeout}; PRAGMA journal_mode = WAL; PRAGMA synchronous = {synchronous};
         PRAGMA secure_delete = ON; PRAGMA fullfsync = ON; PRAGMA checkpoint_fullfsync = ON;"
    )
}

/// The settings of a connection to a server. Every commit is flushed, because a server may crash without this process, which would
/// not know that commits are gone. Pages are assumed to lie in memory or on a solid-state disk: with the default the server would
/// read all users of a small directory instead of a hundred of them by their ids.
pub(crate) fn postgres_settings(schema: &str) -> String {
    format!(
        "SET search_path TO {schema}; SET synchronous_commit TO on; SET random_page_cost TO 1.1;"
    )
}

async fn create_schema(url: &str, name: &str) -> Result<(), sqlx::Error> {
    execute(url, format!("CREATE SCHEMA IF NOT EXISTS {name}")).await
}

async fn execute(url: &str, statement: String) -> Result<(), sqlx::Error> {
    install_drivers();
    let mut connection = AnyConnection::connect(url).await?;
    let statement = AssertSqlSafe(statement);
    sqlx::raw_sql(statement).execute(&mut connection).await?;
    connection.close().await
}

/// The URL of a file, which is created if it is missing. The characters that a URL gives a meaning are escaped.
fn file_url(path: &Path) -> Result<String, sqlx::Error> {
    let path = std::path::absolute(path)?;
    let path = path.to_str().ok_or_else(|| {
        let text = format!("the path {} is not UTF-8", path.display());
        sqlx::Error::Configuration(text.into())
    })?;
    let mut url = "sqlite://".to_owned();
    for character in path.chars() {
        match character {
            '%' => url.push_str("%25"),
            '?' => url.push_str("%3F"),
            '#' => url.push_str("%23"),
            _ => url.push(character),
        }
    }
    url.push_str("?mode=rwc");
    Ok(url)
}

/// On a full disk SQLite rolls a transaction back by itself. `sqlx` does not notice: its own rollback fails, and it would refuse
/// every further transaction on this connection.
async fn is_usable(connection: &mut AnyConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A dropped transaction is rolled back before the answer.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

#[cfg(test)]
mod tests;
