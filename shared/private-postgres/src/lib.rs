//! Starts private PostgreSQL servers for tests, through `scripts/postgres-node`.
//!
//! Invariants: each server has its own temporary folder and its own free loopback port. The server ends and its folder is
//! deleted when its [`PrivatePostgres`] is dropped, or when the process that started it ends, also by `kill -9`. (The
//! script reads a pipe whose other end only this process holds.)

use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use supervised_script::{SupervisedScript, attempts, free_ports, temporary_folder};
use tokio::sync::OnceCell;
use uuid::Uuid;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/postgres-node");

/// The grants that docs/OPERATIONS.md lists, for a role that the roles of all databases belong to. Those on functions belong
/// to a database, so they are made in the template of the others.
const GRANTS: &str = "
    CREATE ROLE users_services;
    GRANT pg_checkpoint TO users_services;
    GRANT EXECUTE ON FUNCTION pg_switch_wal(), pg_ls_waldir() TO users_services;";

static SHARED: OnceCell<PrivatePostgres> = OnceCell::const_new();

/// A running PostgreSQL server that belongs to this process.
#[derive(Debug)]
pub struct PrivatePostgres {
    folder: PathBuf,
    port: u16,
    script: SupervisedScript,
}

impl PrivatePostgres {
    /// The one server that all tests of this process share; give each test its own [`database`](Self::database). It has the
    /// settings that the services need.
    ///
    /// # Panics
    /// If the server cannot be started, because then no test can run.
    pub async fn shared() -> &'static Self {
        SHARED
            .get_or_init(|| async {
                let started = Self::start(&["wal_recycle=off"]).await;
                started.expect("a PostgreSQL server can be started")
            })
            .await
    }

    /// Starts a server that nobody shares, with these settings (`name=value`).
    ///
    /// # Errors
    /// If PostgreSQL is not installed, or the server does not become ready.
    pub async fn start(settings: &[&str]) -> anyhow::Result<Self> {
        attempts(async || Self::start_once(settings).await).await
    }

    async fn start_once(settings: &[&str]) -> anyhow::Result<Self> {
        let [port] = free_ports()?;
        let folder = temporary_folder("postgres-")?;
        let mut script = Command::new(SCRIPT);
        script.arg(&folder).arg(port.to_string()).arg("--remove");
        script.args(settings);
        let script = SupervisedScript::start(script).await?;
        let server = Self {
            folder,
            port,
            script,
        };
        server.execute("template1", GRANTS).await?;
        Ok(server)
    }

    /// Creates an empty database with a random name, and a role that owns it, is no superuser, and may do what docs/OPERATIONS.md
    /// lists. Returns the URL for that role.
    ///
    /// # Panics
    /// If the server does not answer, because then the test cannot run.
    pub async fn database(&self) -> String {
        let name = format!("t{}", Uuid::new_v4().simple());
        let role = format!("CREATE ROLE {name} LOGIN PASSWORD '{name}' IN ROLE users_services");
        let database = format!("CREATE DATABASE {name} OWNER {name}");
        // A database cannot be created in the transaction that two statements in one text are.
        for statement in [role, database] {
            let executed = self.execute("postgres", &statement).await;
            executed.expect("the server creates a database");
        }
        self.url(&name, &name)
    }

    /// Executes statements as the superuser, in this database.
    ///
    /// # Errors
    /// If the server does not answer, or refuses a statement.
    pub async fn execute(&self, database: &str, statements: &str) -> anyhow::Result<()> {
        let mut connection = PgConnection::connect(&self.url("postgres", database)).await?;
        let statements = sqlx::raw_sql(AssertSqlSafe(statements));
        statements.execute(&mut connection).await?;
        Ok(connection.close().await?)
    }

    /// The URL of a database, for this role.
    #[must_use]
    pub fn url(&self, role: &str, database: &str) -> String {
        format!(
            "postgres://{role}:{role}@127.0.0.1:{}/{database}",
            self.port
        )
    }

    /// The folder with all files of the server.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Ends the server with SIGKILL; its port and data are kept for [`restart`](Self::restart).
    ///
    /// # Errors
    /// If the supervising script has ended.
    pub async fn kill(&self) -> anyhow::Result<()> {
        self.script.command("kill", "killed").await
    }

    /// Starts a killed server again with the same port and data, and returns when it is ready.
    ///
    /// # Errors
    /// If the server does not become ready.
    pub async fn restart(&self) -> anyhow::Result<()> {
        self.script.command("start", "ready").await
    }
}

#[cfg(test)]
mod tests {
    use super::PrivatePostgres;
    use sqlx::Connection as _;
    use sqlx::postgres::PgConnection;
    use std::path::Path;

    #[tokio::test]
    async fn a_killed_server_comes_back_with_its_data() {
        let server = PrivatePostgres::start(&[]).await.unwrap();
        let url = server.database().await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let create = sqlx::raw_sql("CREATE TABLE kept (); INSERT INTO kept DEFAULT VALUES");
        create.execute(&mut connection).await.unwrap();
        server.kill().await.unwrap();
        assert!(PgConnection::connect(&url).await.is_err());
        server.restart().await.unwrap();
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let count = sqlx::query_scalar("SELECT count(*) FROM kept");
        let count: i64 = count.fetch_one(&mut connection).await.unwrap();
        assert_eq!(count, 1);
    }

    #[tokio::test]
    async fn the_role_of_a_database_is_no_superuser() {
        let server = PrivatePostgres::shared().await;
        let url = server.database().await;
        let mut connection = PgConnection::connect(&url).await.unwrap();
        let superuser = sqlx::query_scalar("SHOW is_superuser");
        let superuser: String = superuser.fetch_one(&mut connection).await.unwrap();
        assert_eq!(superuser, "off");
    }

    #[tokio::test]
    async fn a_dropped_server_leaves_neither_process_nor_folder() {
        let server = PrivatePostgres::start(&[]).await.unwrap();
        let folder = server.folder().to_owned();
        let pid = std::fs::read_to_string(folder.join("data/postmaster.pid")).unwrap();
        let process = Path::new("/proc").join(pid.lines().next().unwrap());
        assert!(process.exists());
        drop(server);
        assert!(!process.exists());
        assert!(!folder.exists());
    }
}
