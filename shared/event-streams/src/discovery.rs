//! Discovery of the node to connect to. It asks the seeds in the connection string for the members of the cluster, and
//! chooses one by the node preference.

use std::sync::Arc;

use eventstore::NodePreference;
use eventstore_protocol::gossip::MemberInfo;
use eventstore_protocol::gossip::gossip_client::GossipClient;
use eventstore_protocol::gossip::member_info::VNodeState;
use eventstore_protocol::shared::Empty;
use futures::future::select_ok;
use rand::seq::IndexedRandom as _;
use tokio::time::timeout;

use crate::failure::Failure;
use crate::node::Node;
use crate::settings::Settings;
use crate::transport;

/// The only node of the connection string, or the choice among the members that the first seed with a usable answer
/// reports. All seeds are asked at once, so that a seed that hangs does not delay the others.
pub(crate) async fn choose(settings: &Arc<Settings>) -> Result<Node, Failure> {
    if let ([node], false) = (settings.nodes.as_slice(), settings.discover) {
        return Ok(node.clone());
    }
    let choices = settings
        .nodes
        .iter()
        .map(|seed| Box::pin(choose_by(seed, settings)));
    select_ok(choices).await.map(|(node, _)| node)
}

async fn choose_by(seed: &Node, settings: &Settings) -> Result<Node, Failure> {
    let answer = timeout(settings.gossip_timeout, members(seed, settings)).await;
    let members = answer
        .map_err(|_| Failure::Lost(format!("{seed} did not report the members in time")))??;
    preferred(&members, settings.preference)
        .ok_or_else(|| Failure::Lost(format!("{seed} knows no suitable member")))
}

async fn members(seed: &Node, settings: &Settings) -> Result<Vec<MemberInfo>, Failure> {
    let channel = transport::connect(seed, settings).await?;
    let mut gossip = GossipClient::with_interceptor(channel, settings.headers.clone());
    Ok(gossip.read(Empty {}).await?.into_inner().members)
}

/// A live member of the preferred kind, or else any that serves calls. A leader has no substitute, because no other
/// node answers calls that require the leader.
fn preferred(members: &[MemberInfo], preference: NodePreference) -> Option<Node> {
    let of = |states: &[VNodeState]| {
        let suitable: Vec<_> = members
            .iter()
            .filter(|member| member.is_alive && states.contains(&member.state()))
            .filter_map(|member| member.http_end_point.as_ref())
            .filter_map(|address| Node::new(&address.address, address.port))
            .collect();
        suitable.choose(&mut rand::rng()).cloned()
    };
    let any = [
        VNodeState::Leader,
        VNodeState::Follower,
        VNodeState::ReadOnlyReplica,
    ];
    match preference {
        NodePreference::Leader => of(&[VNodeState::Leader]),
        NodePreference::Follower => of(&[VNodeState::Follower]).or_else(|| of(&any)),
        NodePreference::ReadOnlyReplica => of(&[VNodeState::ReadOnlyReplica]).or_else(|| of(&any)),
        NodePreference::Random => of(&any),
    }
}

#[cfg(test)]
mod tests {
    use eventstore_protocol::gossip::EndPoint;

    use super::*;

    fn member(host: &str, state: VNodeState, is_alive: bool) -> MemberInfo {
        MemberInfo {
            state: state.into(),
            is_alive,
            http_end_point: Some(EndPoint {
                address: host.to_owned(),
                port: 2113,
            }),
            ..MemberInfo::default()
        }
    }

    fn preferred_host(members: &[MemberInfo], preference: NodePreference) -> Option<String> {
        preferred(members, preference).map(|node| node.host)
    }

    #[test]
    fn a_live_node_of_the_preferred_kind_is_chosen() {
        use NodePreference::{Follower, Leader, Random, ReadOnlyReplica};
        let members = [
            member("dead", VNodeState::Leader, false),
            member("leader", VNodeState::Leader, true),
            member("follower", VNodeState::Follower, true),
            member("leaving", VNodeState::ShuttingDown, true),
        ];
        assert_eq!(preferred_host(&members, Leader).as_deref(), Some("leader"));
        assert_eq!(
            preferred_host(&members, Follower).as_deref(),
            Some("follower")
        );
        for preference in [Random, ReadOnlyReplica] {
            let any = preferred_host(&members, preference).unwrap();
            assert!(any == "leader" || any == "follower", "{any}");
        }
        let [dead, _, follower, _] = &members;
        let headless = [dead.clone(), follower.clone()];
        assert_eq!(preferred_host(&headless, Leader), None);
    }
}
