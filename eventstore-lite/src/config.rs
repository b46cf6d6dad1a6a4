//! What a server is told when it starts.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;

/// The settings of one server.
#[derive(Clone, Debug)]
pub struct Config {
    /// The folder of the database; it is made if it is missing. One server at a time uses it.
    pub db: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub address: SocketAddr,
    /// Answers before the data is on disk: a power cut then loses acknowledged events. It exists so that
    /// the test of durability can be seen to fail.
    pub unsafe_disable_flush_to_disk: bool,
}

impl Config {
    /// A durable server with its data in `db`, on a free port of 127.0.0.1.
    pub fn new(db: impl Into<PathBuf>) -> Self {
        Self {
            db: db.into(),
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            unsafe_disable_flush_to_disk: false,
        }
    }
}
