//! The address of one server.

use std::fmt;

/// The host and port of a node from a connection string, a gossip answer or a `not-leader` answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Node {
    /// A host name or an IP address. An IPv6 address has no brackets.
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Node {
    /// `None` if the host is empty or the port is too large.
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
