//! The brokers of a run of several parts.

use anyhow::Result;
use clap::Args;
use private_broker::PrivateBroker;
use system_tests::system::Node;

/// Where the parts of a run find their broker.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Brokers {
    /// Runs all parts on one broker, each in its own virtual host. This starts faster, but one part can affect the
    /// next.
    #[arg(long)]
    shared_broker: bool,
}

impl Brokers {
    /// The broker of the next part.
    pub(crate) async fn next(self) -> Result<Node> {
        if self.shared_broker {
            return Ok(Node::Shared(PrivateBroker::shared().await));
        }
        Node::own().await
    }
}
