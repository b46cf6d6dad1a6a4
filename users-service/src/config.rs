//! Configuration by flags and environment variables. The help text never shows the values of URLs and secrets.

use crate::database::Databases;
use crate::domain::UserId;
use crate::operations::{Decision, OperatorName, Reason};
use crate::privacy::cipher::MasterKey;
use crate::privacy::pseudonym::UsernameSecret;
use access_tokens::AccessSettings;
use anyhow::{Context as _, bail};
use clap::{Args, Parser, Subcommand, ValueEnum};
use sqlx::postgres::PgConnectOptions;
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;
use zeroize::Zeroizing;

/// User accounts: commands, read models, erasure.
#[derive(Debug, Parser)]
#[command(version)]
pub enum Arguments {
    /// Runs all roles in one process.
    Serve(Config),
    /// Serves POST, GET /{id}, PATCH and DELETE.
    CommandApi(Config),
    /// Serves GET / (the list).
    QueryApi(Config),
    /// Serves the routes of both APIs.
    Api(Config),
    /// Projects messages from the broker into the read model.
    Projector(Config),
    /// Publishes events from the event store to the broker.
    Publisher(Config),
    /// Finishes every deletion, and sweeps the reservations of names.
    Eraser(Config),
    /// Reads one user's events into the read model again, lifts a hold, and exits.
    Replay {
        /// The user's id.
        user: UserId,
        /// The settings.
        #[command(flatten)]
        config: Config,
    },
    /// Prints an access token that is signed under the secret of `AUTH_SECRET_FILE`.
    Token {
        /// What the bearer may do, for example `users:read,users:write`.
        #[arg(long, value_delimiter = ',', required = true)]
        scopes: Vec<String>,
        /// Who the bearer is (`USER`).
        #[arg(long, env = "USER", default_value = "operator")]
        subject: String,
        /// How many hours the token is valid.
        #[arg(long, default_value = "1", value_parser = clap::value_parser!(u32).range(1..=24 * 366))]
        hours: u32,
        /// The secret, the issuer and the audience.
        #[command(flatten)]
        access: AccessSettings,
    },
    /// Manages parked streams. A stream is parked if one of its events cannot be published.
    Parked {
        /// The operation.
        #[command(subcommand)]
        command: ParkedCommand,
    },
    /// Builds a read model anew from the log, beside the one that readers use, and shows how far it is. The projectors do the
    /// work, so this command may be interrupted. Readers change to the new one when it is complete.
    Rebuild {
        /// The read model.
        read_model: ReadModelName,
        /// The number of its queues. The default is that of the earlier generation.
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=64))]
        partitions: Option<u32>,
        /// The settings.
        #[command(flatten)]
        config: Config,
    },
    /// Manages held users. A user is held if one of the user's events cannot be applied to the read model.
    Held {
        /// The operation.
        #[command(subcommand)]
        command: HeldCommand,
    },
}

impl Arguments {
    /// Whether the process prints a result and ends. No logs are mixed into it; a failure is on stderr.
    #[must_use]
    pub fn print_a_result(&self) -> bool {
        matches!(
            self,
            Self::Token { .. } | Self::Parked { .. } | Self::Held { .. } | Self::Rebuild { .. }
        )
    }
}

/// An operation on parked streams.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// Prints each parked stream, its first unpublished revision, and the type of that event.
    List {
        /// The servers.
        #[command(flatten)]
        servers: ServersConfig,
    },
    /// Makes the publisher retry all parked streams now.
    Retry {
        /// The servers.
        #[command(flatten)]
        servers: ServersConfig,
    },
    /// Skips the first unpublished event of a parked stream, so that the rest is published. The stream `operations` records
    /// the name of the operator and the reason.
    Skip {
        /// The name of the stream.
        stream: String,
        /// Skips the event only if it has this revision.
        #[arg(long)]
        revision: Option<u64>,
        /// Who skips the event, and why.
        #[command(flatten)]
        decision: DecisionArguments,
        /// The servers.
        #[command(flatten)]
        servers: ServersConfig,
    },
}

/// An operation on held users.
#[derive(Debug, Subcommand)]
pub enum HeldCommand {
    /// Prints each held user, the revision of the event that cannot be applied, and the reason.
    List {
        /// The read model.
        #[arg(long, default_value = "directory")]
        read_model: ReadModelName,
        /// The settings.
        #[command(flatten)]
        config: Config,
    },
    /// Lifts the hold and applies the user's events from the log. Prints the user again if an event still cannot be applied.
    Replay {
        /// The user's id.
        user: UserId,
        /// The read model.
        #[arg(long, default_value = "directory")]
        read_model: ReadModelName,
        /// The settings.
        #[command(flatten)]
        config: Config,
    },
    /// Drops the event from this read model, so that later events of the user are applied. The stream `operations` records the
    /// name of the operator and the reason. Prints the user again if a later event cannot be applied.
    Drop {
        /// The user's id.
        user: UserId,
        /// The read model.
        #[arg(long, default_value = "directory")]
        read_model: ReadModelName,
        /// Drops the event only if it has this revision.
        #[arg(long)]
        revision: Option<u64>,
        /// Who drops the event, and why.
        #[command(flatten)]
        decision: DecisionArguments,
        /// The settings.
        #[command(flatten)]
        config: Config,
    },
}

/// The name of a read model.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum ReadModelName {
    /// The list of users.
    Directory,
    /// The counts of created, renamed and deleted users.
    Statistics,
}

/// Who decides, and why.
#[derive(Debug, Clone, Args)]
pub struct DecisionArguments {
    /// The reason, without personal data.
    #[arg(long)]
    pub reason: Reason,
    /// The name of the operator (`USER`).
    #[arg(long, env = "USER")]
    pub by: OperatorName,
}

impl From<DecisionArguments> for Decision {
    fn from(DecisionArguments { reason, by }: DecisionArguments) -> Self {
        Self { by, reason }
    }
}

/// The settings of every role. Each role uses only the settings that it needs.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// The servers.
    #[command(flatten)]
    pub servers: ServersConfig,
    /// The addresses to listen on.
    #[command(flatten)]
    pub bind: BindConfig,
    /// The data folder and the files of secrets.
    #[command(flatten)]
    pub data: DataConfig,
    /// The execution of commands and reads.
    #[command(flatten)]
    pub commands: CommandsConfig,
    /// Who may call the API.
    #[command(flatten)]
    pub access: AccessSettings,
    /// The eraser.
    #[command(flatten)]
    pub eraser: EraserConfig,
}

/// The addresses of other servers.
#[derive(Debug, Clone, Args)]
pub struct ServersConfig {
    /// The URL of the event store (`EVENTSTORE_URL`).
    #[arg(
        long,
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        default_value = "esdb://127.0.0.1:2113?tls=false"
    )]
    pub eventstore_url: String,

    /// The URL of the broker (`AMQP_URL`).
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,

    /// The URL of the id service, used while the broker is unavailable (`UUIDS_URL`).
    #[arg(
        long,
        env = "UUIDS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:6000"
    )]
    pub uuids_url: String,

    /// A file with the access token for the id service (`UUIDS_TOKEN_FILE`). It is read for each request, so a new token needs no
    /// restart.
    #[arg(long, env = "UUIDS_TOKEN_FILE")]
    pub uuids_token_file: Option<PathBuf>,
}

/// The addresses to listen on.
#[derive(Debug, Clone, Args)]
pub struct BindConfig {
    /// The address of roles with an API (`USERS_BIND`). Port 0 takes a free port.
    #[arg(long = "bind", env = "USERS_BIND", default_value = "127.0.0.1:7000")]
    pub users: SocketAddr,

    /// The address where the other roles serve their health and the routes of operators (`HEALTH_BIND`). Port 0 takes a free port.
    #[arg(
        long = "health-bind",
        env = "HEALTH_BIND",
        default_value = "127.0.0.1:0"
    )]
    pub health: SocketAddr,
}

/// The data folder and the files of secrets.
#[derive(Debug, Clone, Args)]
pub struct DataConfig {
    /// The folder of the subject keys (`keys.db`) and the read models (`directory_g1.db`, `statistics_g1.db`); created if missing (`USERS_DATA`).
    #[arg(long = "data", env = "USERS_DATA")]
    pub folder: PathBuf,

    /// The URL of a PostgreSQL database, which then takes the place of the files in the folder (`DATABASE_URL`), such as
    /// `postgres://user:password@host/database?sslmode=verify-full`.
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// A file with 64 hexadecimal digits: the key that wraps the subject keys (`MASTER_KEY_FILE`).
    #[arg(long, env = "MASTER_KEY_FILE")]
    pub master_key_file: PathBuf,

    /// A file with 64 hexadecimal digits: the secret under which usernames are hashed (`USERNAME_SECRET_FILE`).
    /// Only roles with the command API need it.
    #[arg(long, env = "USERNAME_SECRET_FILE")]
    pub username_secret_file: Option<PathBuf>,
}

/// The execution of commands and reads.
#[derive(Debug, Clone, Args)]
pub struct CommandsConfig {
    /// For how many days a command that was sent with an idempotency key is remembered (`IDEMPOTENCY_DAYS`).
    #[arg(long, env = "IDEMPOTENCY_DAYS", default_value = "30", value_parser = clap::value_parser!(u32).range(1..))]
    pub idempotency_days: u32,

    /// A user's history of so many events is read from a snapshot (`SNAPSHOT_EVERY`).
    #[arg(long, env = "SNAPSHOT_EVERY", default_value = "100", value_parser = clap::value_parser!(u16).range(8..=4_000))]
    pub snapshot_every: u16,

    /// The kind of the queue `users`, which takes commands (`COMMANDS_QUEUE`). All processes must agree on it.
    #[arg(long, env = "COMMANDS_QUEUE", default_value = "classic")]
    pub commands_queue: CommandsQueue,

    /// Whether the queue takes plain commands, of other programs, or only our own, which are sealed (`COMMANDS_PLAIN`). The default
    /// is to accept them, and to refuse them if callers are authenticated.
    #[arg(long, env = "COMMANDS_PLAIN")]
    pub commands_plain: Option<PlainCommands>,

    /// At most so many commands, and as many reads of users, are executed at once; others are answered 503 at once
    /// (`REQUESTS_IN_FLIGHT`).
    #[arg(long, env = "REQUESTS_IN_FLIGHT", default_value = "256", value_parser = clap::value_parser!(u16).range(1..))]
    pub requests_in_flight: u16,
}

/// The kind of the queue of commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum CommandsQueue {
    /// A durable classic queue without arguments, as clients of the original service declare it.
    Classic,
    /// A quorum queue, for a cluster.
    Quorum,
}

/// What happens to plain commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum PlainCommands {
    /// They are executed.
    Accept,
    /// They go to the dead-letter queue.
    Refuse,
}

/// The eraser.
#[derive(Debug, Clone, Args)]
pub struct EraserConfig {
    /// The pause between two sweeps of the reservations, in seconds. A claim without a user is released when two sweeps have
    /// seen it (`SWEEP_SECONDS`).
    #[arg(long, env = "SWEEP_SECONDS", default_value = "60", value_parser = clap::value_parser!(u32).range(1..))]
    pub sweep_seconds: u32,
}

impl CommandsConfig {
    /// How long a command that was sent with an idempotency key is remembered.
    #[must_use]
    pub fn remembered_for(&self) -> Duration {
        Duration::from_hours(24) * self.idempotency_days
    }
}

impl Config {
    /// Whether the queue takes plain commands of other programs.
    #[must_use]
    pub fn accepts_plain_commands(&self) -> bool {
        match self.commands.commands_plain {
            Some(plain) => plain == PlainCommands::Accept,
            None => !self.access.authenticates(),
        }
    }
}

impl DataConfig {
    /// The data folder. It is created if missing, and only its owner can read it.
    ///
    /// # Errors
    /// If it cannot be created.
    pub fn folder(&self) -> anyhow::Result<&Path> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let created = builder.create(&self.folder);
        created.with_context(|| format!("cannot create {}", self.folder.display()))?;
        Ok(&self.folder)
    }

    /// The place of the databases: PostgreSQL, or files in the data folder.
    ///
    /// # Errors
    /// If the URL is not one of PostgreSQL, or the folder cannot be created. The error does not repeat the URL, which may have a
    /// password.
    pub fn databases(&self) -> anyhow::Result<Databases> {
        let Some(url) = &self.database_url else {
            return Ok(Databases::Folder(self.folder()?.to_owned()));
        };
        let postgres = ["postgres://", "postgresql://"];
        if !postgres.iter().any(|scheme| url.starts_with(scheme)) {
            bail!(
                "DATABASE_URL must begin with postgres:// (or be unset, for SQLite files in USERS_DATA)"
            );
        }
        let options: Result<PgConnectOptions, _> = url.parse();
        options.context("DATABASE_URL is no URL of a PostgreSQL database")?;
        Ok(Databases::Postgres(url.clone()))
    }

    /// The key that wraps the subject keys.
    ///
    /// # Errors
    /// If the file cannot be read, or has no valid key.
    pub fn master_key(&self) -> anyhow::Result<MasterKey> {
        secret(&self.master_key_file)
    }

    /// The secret under which usernames are hashed.
    ///
    /// # Errors
    /// If no file is configured, it cannot be read, or it has no valid secret.
    pub fn username_secret(&self) -> anyhow::Result<UsernameSecret> {
        let file = self.username_secret_file.as_deref();
        secret(file.context("this role needs USERNAME_SECRET_FILE")?)
    }
}

fn secret<T>(file: &Path) -> anyhow::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let secret = text.trim().parse();
    secret.with_context(|| format!("{} has no valid secret", file.display()))
}
