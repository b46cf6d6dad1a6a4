//! The service Gossip: a single node is its own leader.

use std::net::SocketAddr;

use tonic::{Request, Response, Status, async_trait};
use uuid::Uuid;

use super::proposed::wire_id;
use crate::clock;
use crate::wire::gossip::gossip_server::Gossip;
use crate::wire::gossip::member_info::VNodeState;
use crate::wire::gossip::{ClusterInfo, EndPoint, MemberInfo};
use crate::wire::shared::Empty;

pub(super) struct Service {
    instance: Uuid,
    address: SocketAddr,
}

impl Service {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            instance: Uuid::new_v4(),
            address,
        }
    }
}

#[async_trait]
impl Gossip for Service {
    async fn read(&self, _: Request<Empty>) -> Result<Response<ClusterInfo>, Status> {
        let member = MemberInfo {
            instance_id: Some(wire_id(self.instance, false)),
            time_stamp: clock::now(),
            state: VNodeState::Leader.into(),
            is_alive: true,
            http_end_point: Some(EndPoint {
                address: self.address.ip().to_string(),
                port: self.address.port().into(),
            }),
        };
        Ok(Response::new(ClusterInfo {
            members: vec![member],
        }))
    }
}
