//! A call that the server answers from memory, which shows the upper limit of gRPC.

use std::time::Duration;

use anyhow::{Result, ensure};
use eventstore_lite::wire::gossip::gossip_client::GossipClient;
use eventstore_lite::wire::shared::Empty;
use tonic::transport::Channel;

use crate::figures::{self, Caller};
use crate::report::Report;
use crate::store::Store;

struct MembersReader(GossipClient<Channel>);

impl Caller for MembersReader {
    async fn call(&mut self) -> Result<u64> {
        let members = self.0.read(Empty {}).await?.into_inner().members;
        ensure!(members.len() == 1, "{} members", members.len());
        Ok(1)
    }
}

pub(crate) async fn measure(
    store: &Store,
    callers: &[usize],
    length: Duration,
    report: &mut Report,
) -> Result<()> {
    for count in callers {
        let client = GossipClient::connect(format!("http://{}", store.address())).await?;
        let readers = (0..*count).map(|_| MembersReader(client.clone())).collect();
        let figures = figures::run(readers, store.id()?, length).await;
        report.add("gRPC alone: Gossip.Read", *count, figures);
    }
    Ok(())
}
