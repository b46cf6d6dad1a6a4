//! The service `Gossip`: a single node is its own leader.

use tonic::{Request, Response, Status, async_trait};

use crate::clock;
use crate::event_id;
use crate::node::Node;
use crate::wire::gossip::gossip_server::Gossip;
use crate::wire::gossip::member_info::VNodeState;
use crate::wire::gossip::{ClusterInfo, EndPoint, MemberInfo};
use crate::wire::shared::Empty;

pub(super) struct GossipService(pub(super) Node);

#[async_trait]
impl Gossip for GossipService {
    async fn read(&self, _: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        let member = MemberInfo {
            instance_id: Some(event_id::write(self.0.instance, false)),
            time_stamp: clock::now(),
            state: VNodeState::Leader.into(),
            is_alive: true,
            http_end_point: Some(EndPoint {
                address: self.0.host.clone(),
                port: self.0.port.into(),
            }),
        };
        Ok(Response::new(ClusterInfo {
            members: vec![member],
        }))
    }
}
