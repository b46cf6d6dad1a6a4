//! The configuration of a server.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::users::Users;

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the database. The server creates it if it is missing. One server at a time can use it.
    pub db: PathBuf,
    /// The address to listen on. Port 0 takes a free port.
    pub address: SocketAddr,
    /// The host and port in gossip, if they differ from `address`.
    pub advertised: Advertised,
    /// Who may connect, and what callers may do.
    pub security: Security,
    /// Limits on memory and file descriptors.
    pub limits: Limits,
    /// Whether system streams (`$streams`, `$ce-…`, `$et-…`, `$bc-…`, `$category-…`) link to new events. Soon after
    /// the first start with this option, they also link to all earlier events.
    pub system_projections: bool,
    /// Answers before data is on disk, so that a power cut loses acknowledged events. It exists so that the test of
    /// durability can be seen to fail.
    pub unsafe_disable_flush_to_disk: bool,
}

impl Config {
    /// A durable server with its data in `db`, on a free port of 127.0.0.1, open to everybody on this machine.
    pub fn new(db: impl Into<PathBuf>) -> Self {
        Self {
            db: db.into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            advertised: Advertised::default(),
            security: Security::Insecure,
            limits: Limits::default(),
            system_projections: false,
            unsafe_disable_flush_to_disk: false,
        }
    }
}

/// What gossip reports instead of the address that the server listens on.
#[derive(Clone, Debug, Default)]
pub struct Advertised {
    /// A name or an address. Without it, gossip reports the address that the server listens on, or 127.0.0.1 if that
    /// is 0.0.0.0 or ::.
    pub host: Option<String>,
    /// The port. Without it, gossip reports the port that the server listens on.
    pub port: Option<u16>,
}

/// Who may connect, and what callers may do.
#[derive(Clone, Debug)]
pub enum Security {
    /// No TLS and no users: everybody who can reach the port may do everything.
    Insecure,
    /// TLS, and Basic authentication for every call except health, features and gossip.
    Secure {
        /// A PEM file with the certificate, followed by its chain up to the root.
        certificate: PathBuf,
        /// A PEM file with the private key (PKCS #8, PKCS #1 or SEC 1). Other users must not be able to read it.
        certificate_key: PathBuf,
        /// The users.
        users: Users,
    },
}

/// Limits on memory and file descriptors.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The maximum number of connections. Further ones wait to be accepted.
    pub connections: usize,
    /// The maximum number of bytes of events that wait or are being written. The same limit applies to batch appends
    /// whose last piece has not arrived.
    pub queued_bytes: usize,
    /// The maximum number of concurrent reads of the database. Further ones wait.
    pub readers: usize,
    /// About how many bytes of recent events are kept in memory for live subscriptions.
    pub recent_bytes: usize,
    /// The page cache of each of `readers`, in bytes. The writer has eight times as much.
    pub page_cache: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 1024,
            queued_bytes: 64 * 1024 * 1024,
            readers: 8,
            recent_bytes: 8 * 1024 * 1024,
            page_cache: 2 * 1024 * 1024,
        }
    }
}
