//! What the process is told from outside, by flags or by the environment. URLs and secrets are never shown.

use crate::domain::UserId;
use crate::privacy::cipher::MasterKey;
use crate::privacy::pseudonym::UsernameSecret;
use anyhow::Context as _;
use clap::{Args, Parser, Subcommand};
use std::fs::DirBuilder;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use zeroize::Zeroizing;

/// User accounts: commands, read models, erasure.
#[derive(Debug, Parser)]
#[command(version)]
pub enum Arguments {
    /// All roles in one process.
    Serve(Config),
    /// POST, GET /{id}, PATCH, DELETE.
    CommandApi(Config),
    /// GET / (the list).
    QueryApi(Config),
    /// The routes of both.
    Api(Config),
    /// From the broker to the read model.
    Projector(Config),
    /// From the event store to the broker.
    Publisher(Config),
    /// Finishes every deletion.
    Eraser(Config),
    /// Re-reads one user into the read model, and ends.
    Replay {
        /// The user's id.
        user: UserId,
        /// The settings.
        #[command(flatten)]
        config: Config,
    },
    /// Looks after streams that stand still, because an event of theirs cannot be published.
    Parked {
        /// What to do.
        #[command(subcommand)]
        command: ParkedCommand,
    },
}

/// What to do about parked streams.
#[derive(Debug, Subcommand)]
pub enum ParkedCommand {
    /// Prints each parked stream, the first revision that is not published, and that event's type.
    List {
        /// Where the store is.
        #[command(flatten)]
        servers: ServersConfig,
    },
    /// Has all of them tried again now.
    Retry {
        /// Where the store is.
        #[command(flatten)]
        servers: ServersConfig,
    },
    /// Skips the event that a parked stream waits with, and has the rest published. Who did it, and why, is written
    /// down in the stream `operations`.
    Skip {
        /// The stream's name.
        stream: String,
        /// Why; no personal data.
        #[arg(long)]
        reason: String,
        /// Who decides (`USER`).
        #[arg(long, env = "USER")]
        by: String,
        /// Where the store is.
        #[command(flatten)]
        servers: ServersConfig,
    },
}

/// The settings of every role; each reads what it needs.
#[derive(Debug, Clone, Args)]
pub struct Config {
    /// Where the store and the broker are.
    #[command(flatten)]
    pub servers: ServersConfig,
    /// Where to listen.
    #[command(flatten)]
    pub bind: BindConfig,
    /// Where data and secrets lie.
    #[command(flatten)]
    pub data: DataConfig,
}

/// Where other servers are.
#[derive(Debug, Clone, Args)]
pub struct ServersConfig {
    /// The event store (`EVENTSTORE_URL`).
    #[arg(
        long,
        env = "EVENTSTORE_URL",
        hide_env_values = true,
        default_value = "esdb://127.0.0.1:2113?tls=false"
    )]
    pub eventstore_url: String,

    /// The broker (`AMQP_URL`).
    #[arg(
        long,
        env = "AMQP_URL",
        hide_env_values = true,
        default_value = "amqp://guest:guest@127.0.0.1:5672/%2f"
    )]
    pub amqp_url: String,

    /// Where ids are had while the broker is away (`UUIDS_URL`).
    #[arg(
        long,
        env = "UUIDS_URL",
        hide_env_values = true,
        default_value = "http://127.0.0.1:6000"
    )]
    pub uuids_url: String,
}

/// Where to listen.
#[derive(Debug, Clone, Args)]
pub struct BindConfig {
    /// Where the roles with routes of their own listen (`USERS_BIND`); port 0 takes a free one.
    #[arg(long = "bind", env = "USERS_BIND", default_value = "127.0.0.1:7000")]
    pub users: SocketAddr,

    /// Where the other roles tell their health (`HEALTH_BIND`); port 0 takes a free one.
    #[arg(
        long = "health-bind",
        env = "HEALTH_BIND",
        default_value = "127.0.0.1:0"
    )]
    pub health: SocketAddr,
}

/// Where data and secrets lie.
#[derive(Debug, Clone, Args)]
pub struct DataConfig {
    /// The folder of the subject keys (`keys.db`) and the read model (`directory.db`), made if missing (`USERS_DATA`).
    #[arg(long = "data", env = "USERS_DATA")]
    pub folder: PathBuf,

    /// A file with 64 hexadecimal digits, the key that wraps the subject keys (`MASTER_KEY_FILE`).
    #[arg(long, env = "MASTER_KEY_FILE")]
    pub master_key_file: PathBuf,

    /// A file with 64 hexadecimal digits, the secret under which usernames are hashed (`USERNAME_SECRET_FILE`).
    /// Only roles that take commands need it.
    #[arg(long, env = "USERNAME_SECRET_FILE")]
    pub username_secret_file: Option<PathBuf>,
}

impl DataConfig {
    /// The folder, which is there afterwards, and for nobody else to look into.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn folder(&self) -> anyhow::Result<&Path> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(0o700);
        let made = builder.create(&self.folder);
        made.with_context(|| format!("cannot make {}", self.folder.display()))?;
        Ok(&self.folder)
    }

    /// The key that wraps the subject keys.
    ///
    /// # Errors
    /// When the file cannot be read, or holds no key.
    pub fn master_key(&self) -> anyhow::Result<MasterKey> {
        secret(&self.master_key_file)
    }

    /// The secret under which usernames are hashed.
    ///
    /// # Errors
    /// When there is no file, it cannot be read, or holds no secret.
    pub fn username_secret(&self) -> anyhow::Result<UsernameSecret> {
        let file = self.username_secret_file.as_deref();
        secret(file.context("USERNAME_SECRET_FILE is needed by this role")?)
    }
}

fn secret<T>(file: &Path) -> anyhow::Result<T>
where
    T: FromStr<Err: std::error::Error + Send + Sync + 'static>,
{
    let text = std::fs::read_to_string(file).map(Zeroizing::new);
    let text = text.with_context(|| format!("cannot read {}", file.display()))?;
    let secret = text.trim().parse();
    secret.with_context(|| format!("{} holds no secret", file.display()))
}
