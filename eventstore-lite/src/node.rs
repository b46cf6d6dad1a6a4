//! The only node of the cluster, as clients see it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use uuid::Uuid;

use crate::config::Advertised;

/// The version of the real server that this server imitates.
pub(crate) const VERSION: &str = "24.6.0";

#[derive(Clone, Debug)]
pub(crate) struct Node {
    /// New at each start.
    pub(crate) instance: Uuid,
    pub(crate) host: String,
    pub(crate) port: u16,
}

impl Node {
    /// The node of a server that listens on `address`. Clients cannot connect to 0.0.0.0, so another address is
    /// advertised instead.
    pub(crate) fn new(address: SocketAddr, advertised: Advertised) -> Self {
        let host = advertised.host.unwrap_or_else(|| {
            let ip = address.ip();
            let any = ip.is_unspecified();
            let ip = if any {
                IpAddr::V4(Ipv4Addr::LOCALHOST)
            } else {
                ip
            };
            ip.to_string()
        });
        Self {
            instance: Uuid::new_v4(),
            host,
            port: advertised.port.unwrap_or(address.port()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn advertised_by(address: &str, host: Option<&str>, port: Option<u16>) -> String {
        let host = host.map(str::to_owned);
        let node = Node::new(address.parse().unwrap(), Advertised { host, port });
        format!("{} {}", node.host, node.port)
    }

    #[test]
    fn the_advertised_address_can_be_connected_to() {
        assert_eq!(advertised_by("127.0.0.2:5", None, None), "127.0.0.2 5");
        assert_eq!(advertised_by("0.0.0.0:5", None, None), "127.0.0.1 5");
        assert_eq!(advertised_by("[::]:5", Some("store"), Some(6)), "store 6");
    }
}
