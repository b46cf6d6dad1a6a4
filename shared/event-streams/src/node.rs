//! The address of one server.

use std::fmt;

/// Host and port, as a connection string, the gossip or a `not-leader` answer names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// A name or an IP address; an IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Node {
    pub(crate) fn new(host: &str, port: u32) -> Option<Self> {
        let host = host.strip_prefix('[').unwrap_or(host);
        let host = host.strip_suffix(']').unwrap_or(host);
        Some(Self {
            host: host.to_owned(),
            port: u16::try_from(port).ok()?,
        })
        .filter(|node| !node.host.is_empty())
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(formatter, "[{}]:{}", self.host, self.port)
        } else {
            write!(formatter, "{}:{}", self.host, self.port)
        }
    }
}
