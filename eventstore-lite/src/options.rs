//! Options and environment of the server. They have the names of the real server where it has the same option.

use std::ffi::OsString;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::{Advertised, Config, Limits, Role, Security, Users};
use anyhow::{Context, Result, bail, ensure};
use clap::builder::BoolishValueParser;
use clap::{ArgAction, Args, ValueEnum};

/// Variables for passwords. On a command line, other users could read them.
const ADMIN_PASSWORD: &str = "EVENTSTORE_DEFAULT_ADMIN_PASSWORD";
const OPS_PASSWORD: &str = "EVENTSTORE_DEFAULT_OPS_PASSWORD";

const NO_SECURITY: &str = "choose how callers are trusted. Either\n  \
    --insecure (EVENTSTORE_INSECURE=true): no TLS and no passwords, for development and tests on one machine; or\n  \
    --certificate FILE --certificate-key FILE with --users-file FILE or EVENTSTORE_DEFAULT_ADMIN_PASSWORD: TLS and passwords";

/// The end of `--help`, about passwords.
pub(crate) const ENVIRONMENT: &str = "\
Passwords come from --users-file, or from the environment:
  EVENTSTORE_DEFAULT_ADMIN_PASSWORD  the password of the user `admin`
  EVENTSTORE_DEFAULT_OPS_PASSWORD    the password of the user `ops`
RUST_LOG sets how much is logged: error, warn, info (the default), debug, trace.";

/// The options of the server.
#[derive(Args, Debug)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    network: NetworkArgs,
    #[command(flatten)]
    trust: SecurityArgs,
    #[command(flatten)]
    database: StorageArgs,
    #[command(flatten)]
    projections: ProjectionArgs,
    #[command(flatten)]
    bounds: LimitArgs,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Network")]
#[expect(
    clippy::struct_field_names,
    reason = "fields are named as their options"
)]
struct NetworkArgs {
    /// The address to listen on
    #[arg(long, env = "EVENTSTORE_NODE_IP", default_value = "127.0.0.1")]
    node_ip: IpAddr,
    /// The port for gRPC and HTTP; 0 takes a free port, which is logged
    #[arg(long, env = "EVENTSTORE_NODE_PORT", default_value_t = 2113)]
    node_port: u16,
    /// The name or address that clients connect to, if it is not --node-ip
    #[arg(long, env = "EVENTSTORE_NODE_HOST_ADVERTISE_AS", value_name = "HOST")]
    node_host_advertise_as: Option<String>,
    /// The port that clients connect to, if it is not --node-port
    #[arg(long, env = "EVENTSTORE_NODE_PORT_ADVERTISE_AS", value_name = "PORT")]
    node_port_advertise_as: Option<u16>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Security (one of --insecure and --certificate is needed)")]
struct SecurityArgs {
    /// No TLS and no passwords: everybody who can reach the port may do everything. On loopback only
    #[arg(long, env = "EVENTSTORE_INSECURE", action = ArgAction::Set, value_parser = BoolishValueParser::new(),
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true",
        hide_default_value = true, value_name = "BOOL")]
    insecure: bool,
    /// Dangerous: --insecure on an address that other machines can reach
    #[arg(long, env = "EVENTSTORE_ALLOW_INSECURE_NETWORK", action = ArgAction::Set,
        value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, value_name = "BOOL")]
    allow_insecure_network: bool,
    /// The certificate and its chain up to the root, as PEM
    #[arg(
        long = "certificate",
        alias = "certificate-file",
        env = "EVENTSTORE_CERTIFICATE_FILE",
        value_name = "FILE"
    )]
    certificate: Option<PathBuf>,
    /// The private key of the certificate, as PEM; only the owner and the group may be able to read the file
    #[arg(
        long = "certificate-key",
        alias = "certificate-private-key-file",
        env = "EVENTSTORE_CERTIFICATE_PRIVATE_KEY_FILE",
        value_name = "FILE"
    )]
    certificate_key: Option<PathBuf>,
    /// The users, one per line: NAME:ROLE:HASH. ROLE is admin, ops or user, and HASH is the output of
    /// `hash-password`. Only the owner and the group may be able to read the file
    #[arg(long, env = "EVENTSTORE_USERS_FILE", value_name = "FILE")]
    users_file: Option<PathBuf>,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Database")]
struct StorageArgs {
    /// The folder of the database; it is created if it is missing
    #[arg(long, env = "EVENTSTORE_DB", default_value = "eventstore-db")]
    db: PathBuf,
    /// Dangerous: answer before data is on disk. For tests only.
    #[arg(long, env = "EVENTSTORE_UNSAFE_DISABLE_FLUSH_TO_DISK", hide = true)]
    unsafe_disable_flush_to_disk: bool,
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Projections")]
struct ProjectionArgs {
    /// Serve the system streams $streams, $ce-…, $et-…, $bc-… and $category-…
    #[arg(long, alias = "start-standard-projections", env = "EVENTSTORE_START_STANDARD_PROJECTIONS",
        action = ArgAction::Set, value_parser = BoolishValueParser::new(), num_args = 0..=1, require_equals = true,
        default_value = "false", default_missing_value = "true", hide_default_value = true, value_name = "BOOL")]
    system_projections: bool,
    /// The same under another name: system and all serve the system streams. There are no other projections
    #[arg(
        long,
        env = "EVENTSTORE_RUN_PROJECTIONS",
        ignore_case = true,
        default_value = "none"
    )]
    run_projections: RunProjections,
}

/// The values of the real server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum RunProjections {
    None,
    System,
    All,
}

impl ProjectionArgs {
    fn are_on(&self) -> bool {
        self.system_projections || self.run_projections != RunProjections::None
    }
}

#[derive(Args, Debug)]
#[command(next_help_heading = "Limits")]
struct LimitArgs {
    /// The maximum number of connections; further ones wait to be accepted
    #[arg(long, env = "EVENTSTORE_MAX_CONNECTIONS", value_name = "COUNT", default_value_t = Limits::default().connections,
        value_parser = at_least::<1>)]
    max_connections: usize,
    /// The maximum number of bytes of events that wait to be written; callers wait beyond it. The same limit applies
    /// to batch appends whose last piece has not arrived; sessions end beyond it
    #[arg(long, env = "EVENTSTORE_MAX_QUEUED_BYTES", value_name = "BYTES", default_value_t = Limits::default().queued_bytes,
        value_parser = at_least::<{ 1024 * 1024 }>)]
    max_queued_bytes: usize,
    /// The maximum number of concurrent reads of the database; further ones wait
    #[arg(long, env = "EVENTSTORE_READER_THREADS_COUNT", value_name = "COUNT", default_value_t = Limits::default().readers,
        value_parser = at_least::<1>)]
    reader_threads_count: usize,
    /// About how many bytes of recent events are kept in memory for live subscriptions
    #[arg(long, env = "EVENTSTORE_RECENT_EVENTS_SIZE", value_name = "BYTES", default_value_t = Limits::default().recent_bytes,
        value_parser = at_least::<0>)]
    recent_events_size: usize,
    /// The page cache of each reader, in bytes; the writer has eight times as much
    #[arg(long, env = "EVENTSTORE_PAGE_CACHE_SIZE", value_name = "BYTES", default_value_t = Limits::default().page_cache,
        value_parser = at_least::<{ 64 * 1024 }>)]
    page_cache_size: usize,
}

/// The maximum of all limits.
const MOST: usize = u32::MAX as usize / 2;

fn at_least<const LEAST: usize>(text: &str) -> std::result::Result<usize, String> {
    let number = text.parse::<usize>().ok();
    number
        .filter(|number| (LEAST..=MOST).contains(number))
        .ok_or_else(|| format!("it must be a number from {LEAST} to {MOST}"))
}

impl ServerArgs {
    /// The configuration for these options; `variable` reads the environment.
    pub(crate) fn config(self, variable: impl Fn(&str) -> Option<OsString>) -> Result<Config> {
        let security = self.trust.security(self.network.node_ip, variable)?;
        let mut config = Config::new(self.database.db);
        config.address = SocketAddr::new(self.network.node_ip, self.network.node_port);
        config.advertised = Advertised {
            host: self.network.node_host_advertise_as,
            port: self.network.node_port_advertise_as,
        };
        config.security = security;
        config.limits = Limits {
            connections: self.bounds.max_connections,
            queued_bytes: self.bounds.max_queued_bytes,
            readers: self.bounds.reader_threads_count,
            recent_bytes: self.bounds.recent_events_size,
            page_cache: self.bounds.page_cache_size,
        };
        config.system_projections = self.projections.are_on();
        config.unsafe_disable_flush_to_disk = self.database.unsafe_disable_flush_to_disk;
        Ok(config)
    }
}

impl SecurityArgs {
    fn security(
        self,
        address: IpAddr,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Security> {
        let (certificate, certificate_key) = match (self.certificate, self.certificate_key) {
            (Some(certificate), Some(key)) => (certificate, key),
            (None, None) if self.insecure => {
                ensure!(
                    address.is_loopback() || self.allow_insecure_network,
                    "--insecure lets everybody who can reach {address} do everything: listen on loopback (--node-ip \
                     127.0.0.1), use TLS (--certificate), or add --allow-insecure-network"
                );
                return Ok(Security::Insecure);
            }
            (None, None) => bail!(NO_SECURITY),
            (Some(_), None) | (None, Some(_)) => {
                bail!("--certificate and --certificate-key belong together: one of them is missing")
            }
        };
        ensure!(
            !self.insecure,
            "--insecure and --certificate exclude each other"
        );
        let users = users(self.users_file, variable)?;
        ensure!(
            !users.is_empty(),
            "TLS needs users: use --users-file FILE or {ADMIN_PASSWORD}"
        );
        Ok(Security::Secure {
            certificate,
            certificate_key,
            users,
        })
    }
}

fn users(file: Option<PathBuf>, variable: impl Fn(&str) -> Option<OsString>) -> Result<Users> {
    let mut users = file.map_or_else(|| Ok(Users::default()), |file| Users::read(&file))?;
    for (name, role, password) in [
        ("admin", Role::Admin, ADMIN_PASSWORD),
        ("ops", Role::Operator, OPS_PASSWORD),
    ] {
        if let Some(text) = variable(password) {
            let text = text.into_string().ok().filter(|text| !text.is_empty());
            let text = text.with_context(|| format!("{password} is empty or not UTF-8"))?;
            users.add(name, role, &text)?;
        }
    }
    Ok(users)
}
