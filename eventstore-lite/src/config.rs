//! What a server is told when it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

use crate::users::Users;

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the database; it is made if it is missing. One server at a time uses it.
    pub db: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// The host and port that clients are told in gossip, where they differ from `address`.
    pub advertised: Advertised,
    /// Who may connect and what they may do.
    pub security: Security,
    /// What memory and file descriptors depend on.
    pub limits: Limits,
    /// Whether system streams (`$streams`, `$ce-…`, `$et-…`, `$bc-…`, `$category-…`) link to what is written, and,
    /// soon after the first start with this on, to what is there already.
    pub system_projections: bool,
    /// Answers before the data is on disk: a power cut then loses acknowledged events. It exists so that
    /// the test of durability can be seen to fail.
    pub unsafe_disable_flush_to_disk: bool,
}

impl Config {
    /// A durable server with its data in `db`, on a free port of 127.0.0.1, open to whoever is on this machine.
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

/// What gossip says in place of the address that the server listens on.
#[derive(Clone, Debug, Default)]
pub struct Advertised {
    /// A name or an address; without one, the address, or 127.0.0.1 if that is 0.0.0.0 or ::.
    pub host: Option<String>,
    /// Without one, the port that the server listens on.
    pub port: Option<u16>,
}

/// Who may connect and what they may do.
#[derive(Clone, Debug)]
pub enum Security {
    /// Neither TLS nor users: whoever reaches the port may do everything.
    Insecure,
    /// TLS, and Basic authentication of every caller but those who ask for health, features or gossip.
    Secure {
        /// A PEM file with the certificate and what leads from it to the root, in this order.
        certificate: PathBuf,
        /// A PEM file with the private key (PKCS #8, PKCS #1 or SEC 1), which other users must not be able to read.
        certificate_key: PathBuf,
        /// Who they may be.
        users: Users,
    },
}

/// What memory and file descriptors depend on.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The most connections at once; others wait to be accepted.
    pub connections: usize,
    /// The most bytes of events that wait to be written or are being written; and the most of batch appends whose last
    /// piece has not come.
    pub queued_bytes: usize,
    /// The most reads of the database at once; others wait.
    pub readers: usize,
    /// About the bytes of the last events that are kept in memory for live subscriptions.
    pub recent_bytes: usize,
    /// The bytes of the database that each of `readers` may keep in memory, and the writer eight times.
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
