//! A system without an API, with its read models in one of the two kinds of database.

use anyhow::{Context as _, Result, ensure};
use private_postgres::PrivatePostgres;
use sqlx::any::AnyPoolOptions;
use sqlx::{AnyPool, AssertSqlSafe};
use std::fmt;
use std::fs;
use std::process::Command;
use system_tests::system::Node;
use system_tests::{Part, System};
use users_service::database::{Databases, Dialect};
use users_service::integration::consumer::{ReaderQueues, dead_letter_queue};

/// The queues of the list. The statistics always have one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Partitions {
    One,
    /// As long as nobody changes it.
    Four,
}

impl Partitions {
    pub(super) const ALL: [Self; 2] = [Self::One, Self::Four];

    fn number(self) -> u32 {
        match self {
            Self::One => 1,
            Self::Four => 4,
        }
    }
}

impl fmt::Display for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::One => "one queue for the list",
            Self::Four => "four queues for the list",
        })
    }
}

/// Where the databases are, and how many queues the list has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Setup {
    pub(super) dialect: Dialect,
    pub(super) partitions: Partitions,
}

impl Setup {
    /// What users-service does unless it is told otherwise.
    pub(super) const REAL: Self = Self {
        dialect: Dialect::Sqlite,
        partitions: Partitions::Four,
    };

    /// Both kinds of database.
    pub(super) fn with(partitions: Partitions) -> [Self; 2] {
        [Dialect::Sqlite, Dialect::Postgres].map(|dialect| Self {
            dialect,
            partitions,
        })
    }

    /// The queues of the list and of the statistics, in the generations that readers use.
    pub(super) fn read_models(self) -> [ReaderQueues; 2] {
        // Another number of queues is another generation.
        let generation = if self.partitions == Partitions::Four {
            1
        } else {
            2
        };
        [
            ReaderQueues {
                read_model: "directory",
                generation,
                partitions: self.partitions.number(),
            },
            ReaderQueues {
                read_model: "statistics",
                generation: 1,
                partitions: 1,
            },
        ]
    }
}

impl fmt::Display for Setup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let database = match self.dialect {
            Dialect::Sqlite => "SQLite",
            Dialect::Postgres => "PostgreSQL",
        };
        write!(f, "{database}, {}", self.partitions)
    }
}

/// A system and the place of its databases.
pub(super) struct Prepared {
    pub(super) system: System,
    pub(super) databases: Databases,
}

impl Prepared {
    /// Starts the store. Projector and `others` are prepared only.
    pub(super) async fn without_projector(
        broker: Node,
        setup: Setup,
        others: &[Part],
    ) -> Result<Self> {
        let url = broker.vhost().await;
        let parts = [&[Part::Store, Part::Projector], others].concat();
        let mut system = System::prepare(&parts, broker, &url, "info")?;
        let databases = match setup.dialect {
            Dialect::Sqlite => {
                let folder = system.folder().join("users");
                fs::create_dir_all(&folder)?;
                Databases::Folder(folder)
            }
            Dialect::Postgres => {
                let url = PrivatePostgres::shared().await.database().await;
                system.use_database(&url);
                Databases::Postgres(url)
            }
        };
        system.start_part(Part::Store).await?;
        Ok(Self { system, databases })
    }

    /// Starts store and projector, and makes the wanted number of queues. `others` are prepared only.
    pub(super) async fn start(broker: Node, setup: Setup, others: &[Part]) -> Result<Self> {
        let mut prepared = Self::without_projector(broker, setup, others).await?;
        prepared.system.start_part(Part::Projector).await?;
        prepared.system.serves(Part::Projector).await?;
        if setup.partitions == Partitions::One {
            let output = prepared.rebuild_command(setup)?.output()?;
            let said = String::from_utf8_lossy(&output.stderr);
            ensure!(output.status.success(), "{said}");
        }
        Ok(prepared)
    }

    /// The operator's command that builds another generation of the list.
    pub(super) fn rebuild_command(&self, setup: Setup) -> Result<Command> {
        let partitions = setup.partitions.number().to_string();
        let arguments = ["rebuild", "directory", "--partitions", &partitions];
        self.system.command(Part::Projector, &arguments)
    }

    /// A connection to the tables of a generation.
    pub(super) async fn tables(&self, generation: ReaderQueues) -> Result<AnyPool> {
        let name = format!("{}_g{}", generation.read_model, generation.generation);
        self.connection(&name, "rw", "").await
    }

    /// A connection to new tables, with the settings of a generation.
    pub(super) async fn new_tables(&self, name: &str, tables: &[&str]) -> Result<AnyPool> {
        let (settings, clustered) = match &self.databases {
            Databases::Folder(_) => (
                "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL; PRAGMA secure_delete = ON;",
                "WITHOUT ROWID",
            ),
            Databases::Postgres(url) => {
                let pool = AnyPool::connect(url).await?;
                let create = AssertSqlSafe(format!("CREATE SCHEMA {name}"));
                sqlx::raw_sql(create).execute(&pool).await?;
                ("", "")
            }
        };
        let connection = self.connection(name, "rwc", settings).await?;
        for table in tables {
            let table = AssertSqlSafe(table.replace("{clustered}", clustered));
            sqlx::raw_sql(table).execute(&connection).await?;
        }
        Ok(connection)
    }

    async fn connection(&self, name: &str, mode: &str, settings: &str) -> Result<AnyPool> {
        sqlx::any::install_default_drivers();
        let (url, settings) = match &self.databases {
            Databases::Folder(folder) => {
                let file = folder.join(format!("{name}.db"));
                let url = format!("sqlite://{}?mode={mode}", file.display());
                (url, settings.to_owned())
            }
            Databases::Postgres(url) => (
                url.clone(),
                format!("SET search_path TO {name}; {settings}"),
            ),
        };
        let pool = AnyPoolOptions::new().max_connections(1);
        let pool = pool.after_connect(move |connection, _| {
            let settings = AssertSqlSafe(settings.clone());
            Box::pin(async move { sqlx::raw_sql(settings).execute(connection).await.map(drop) })
        });
        pool.connect(&url).await.context("a connection to tables")
    }

    /// Fails unless both read models have exactly so many users, and no message is a dead letter. The control: they have not
    /// one more.
    pub(super) async fn check(&self, setup: Setup, users: usize) -> Result<()> {
        let users = i64::try_from(users)?;
        for queues in setup.read_models() {
            let read_model = queues.read_model;
            let tables = self.tables(queues).await?;
            let count: i64 = sqlx::query_scalar("SELECT count(*) FROM ledger")
                .fetch_one(&tables)
                .await?;
            ensure!(count == users, "{read_model} has {count} of {users} users");
            for queue in queues.queues() {
                let dead = self.system.messages(&dead_letter_queue(&queue)).await?;
                ensure!(dead.is_empty(), "dead letters of {queue}: {dead:?}");
            }
        }
        Ok(())
    }
}
