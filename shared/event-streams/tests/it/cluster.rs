//! Clusters: the client discovers the leader and follows it when it changes. Every call carries headers and a deadline.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use event_streams::{AppendError, Delivery, EventStreams, Expected};
use eventstore_protocol::google::rpc;
use eventstore_protocol::gossip::MemberInfo;
use eventstore_protocol::gossip::member_info::VNodeState;
use eventstore_protocol::streams::batch_append_req::options::DeadlineOption;
use eventstore_protocol::streams::batch_append_resp::Result as Outcome;
use eventstore_protocol::streams::{
    BatchAppendReq, BatchAppendResp, ReadReq, ReadResp, TombstoneResp,
};
use futures::future::join_all;
use tokio::net::TcpListener;
use tonic::Status;

use crate::stand_in::{Script, StandIn, answer, member, not_leader, stored};
use crate::support::{event, soon, until};

/// A node that knows the members and does not lead.
struct Follower {
    leader: SocketAddr,
    members: Vec<MemberInfo>,
}

impl Script for Follower {
    fn read(&self, _: &ReadReq) -> Result<Vec<ReadResp>, Status> {
        Err(not_leader(self.leader))
    }

    fn members(&self) -> Vec<MemberInfo> {
        self.members.clone()
    }
}

/// A healthy leader.
struct Leader;

impl Script for Leader {}

async fn append(streams: &EventStreams) {
    let append = streams.append("s", Expected::NoStream, vec![event("A.v1")]);
    soon(append).await.unwrap();
}

#[tokio::test]
async fn the_leader_is_discovered_although_a_seed_hangs() {
    let leader = StandIn::start(Leader).await;
    let follower = StandIn::start(Follower {
        leader: leader.address(),
        members: vec![member(leader.address(), VNodeState::Leader)],
    })
    .await;
    // It accepts connections and sends nothing.
    let hung = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let hung_address = hung.local_addr().unwrap();
    let url = format!("esdb://{hung_address},{}?tls=false", follower.address());
    append(&EventStreams::connect(&url).unwrap()).await;
    assert_eq!(leader.received().items.len(), 1);
    assert_eq!(follower.count("gossip"), 1);
    assert_eq!(follower.count("session"), 0);
}

#[tokio::test]
async fn a_single_seed_is_enough_to_discover_the_leader() {
    let leader = StandIn::start(Leader).await;
    let follower = StandIn::start(Follower {
        leader: leader.address(),
        members: vec![member(leader.address(), VNodeState::Leader)],
    })
    .await;
    let port = follower.address().port();
    let url = format!("esdb+discover://localhost:{port}?tls=false");
    append(&EventStreams::connect(&url).unwrap()).await;
    assert_eq!(leader.received().items.len(), 1);
}

#[tokio::test]
async fn the_leader_that_a_follower_names_is_used() {
    let leader = StandIn::start(Leader).await;
    let follower = StandIn::start(Follower {
        leader: leader.address(),
        members: Vec::new(),
    })
    .await;
    append(&follower.connect()).await;
    assert_eq!(leader.received().items.len(), 1);
}

#[tokio::test]
async fn a_cluster_without_a_leader_is_unavailable() {
    let follower = StandIn::start(Follower {
        leader: "127.0.0.1:1".parse().unwrap(),
        members: vec![member("127.0.0.1:1".parse().unwrap(), VNodeState::Follower)],
    })
    .await;
    let url = format!("esdb+discover://{}?tls=false", follower.address());
    let streams = EventStreams::connect(&url).unwrap();
    let refused = soon(streams.read_last("s")).await.unwrap_err();
    assert!(
        refused.to_string().contains("knows no suitable member"),
        "{refused}"
    );
}

/// A leader until the test deposes it.
struct Deposed {
    successor: SocketAddr,
    is_deposed: Arc<AtomicBool>,
}

impl Script for Deposed {
    fn read(&self, _: &ReadReq) -> Result<Vec<ReadResp>, Status> {
        if self.is_deposed.load(Ordering::SeqCst) {
            return Err(not_leader(self.successor));
        }
        Ok(Vec::new())
    }

    fn tombstone(&self) -> Result<TombstoneResp, Status> {
        self.read(&ReadReq::default())?;
        Ok(TombstoneResp::default())
    }
}

#[tokio::test]
async fn calls_follow_the_leader_when_it_changes() {
    let successor = StandIn::start(Leader).await;
    let is_deposed = Arc::<AtomicBool>::default();
    let first = StandIn::start(Deposed {
        successor: successor.address(),
        is_deposed: Arc::clone(&is_deposed),
    })
    .await;
    let streams = first.connect();
    append(&streams).await;
    soon(streams.tombstone("a", Expected::Any)).await.unwrap();
    is_deposed.store(true, Ordering::SeqCst);
    soon(streams.tombstone("b", Expected::Any)).await.unwrap();
    append(&streams).await;
    assert_eq!(
        (first.count("tombstone"), successor.count("tombstone")),
        (2, 1)
    );
    assert_eq!(
        (
            first.received().items.len(),
            successor.received().items.len()
        ),
        (1, 1)
    );
}

#[tokio::test]
async fn a_subscription_moves_to_the_new_leader_although_the_former_one_keeps_it_open() {
    let successor = StandIn::start(Leader).await;
    let is_deposed = Arc::<AtomicBool>::default();
    let first = StandIn::start(Deposed {
        successor: successor.address(),
        is_deposed: Arc::clone(&is_deposed),
    })
    .await;
    // No call is made: the probes at every interval of the keep-alive find the new leader.
    let url = format!("esdb://{}?tls=false&keepAliveInterval=100", first.address());
    let streams = EventStreams::connect(&url).unwrap();
    let mut all = streams.subscribe_all(&[], None);
    let listening = tokio::spawn(async move { while all.next().await != Delivery::CaughtUp {} });
    until(async || first.count("subscribe") == 1).await;
    is_deposed.store(true, Ordering::SeqCst);
    until(async || successor.count("subscribe") == 1).await;
    listening.abort();
    assert_eq!(first.count("subscribe"), 1);
}

/// A former leader that lost the other nodes: it ends no session, and is not ready for any append.
struct CutOff {
    successor: SocketAddr,
    is_cut_off: Arc<AtomicBool>,
}

impl Script for CutOff {
    fn read(&self, _: &ReadReq) -> Result<Vec<ReadResp>, Status> {
        if self.is_cut_off.load(Ordering::SeqCst) {
            return Err(not_leader(self.successor));
        }
        Ok(Vec::new())
    }

    fn append(&self, item: BatchAppendReq) -> Vec<BatchAppendResp> {
        if self.is_cut_off.load(Ordering::SeqCst) {
            let message = "Server Is Not Ready".to_owned();
            let not_ready = rpc::Status {
                message,
                ..rpc::Status::default()
            };
            return vec![answer(item, Outcome::Error(not_ready))];
        }
        vec![answer(item, stored())]
    }
}

#[tokio::test]
async fn appends_leave_a_node_that_stays_not_ready_although_no_other_call_is_made() {
    let successor = StandIn::start(Leader).await;
    let is_cut_off = Arc::<AtomicBool>::default();
    let first = StandIn::start(CutOff {
        successor: successor.address(),
        is_cut_off: Arc::clone(&is_cut_off),
    })
    .await;
    let streams = first.connect();
    append(&streams).await;
    is_cut_off.store(true, Ordering::SeqCst);
    let appends = (0..8).map(|_| append(&streams));
    join_all(appends).await;
    assert_eq!(successor.received().items.len(), 8);
}

#[tokio::test]
async fn every_call_carries_credentials_a_deadline_and_the_leader_requirement() {
    let server = StandIn::start(Leader).await;
    let address = server.address();
    let url =
        format!("esdb://admin:secret@{address}?tls=false&connectionName=users&defaultDeadline=700");
    let streams = EventStreams::connect(&url).unwrap();
    append(&streams).await;
    soon(streams.read_last("s")).await.unwrap();
    soon(streams.delete("s", Expected::Any)).await.unwrap();
    soon(streams.tombstone("s", Expected::Any)).await.unwrap();
    soon(streams.read_all(&["s"], None, 0)).await.unwrap();
    for method in ["session", "read", "delete", "tombstone"] {
        for (header, value) in [
            ("authorization", "Basic YWRtaW46c2VjcmV0"),
            ("connection-name", "users"),
            ("requires-leader", "true"),
        ] {
            assert_eq!(
                server.header(method, header).as_deref(),
                Some(value),
                "{method}"
            );
        }
        let timeout = server.header(method, "grpc-timeout");
        // A session lasts as long as its connection. Each of its appends has a deadline.
        let expected = (method != "session").then_some("700000u");
        assert_eq!(timeout.as_deref(), expected, "{method}");
    }
    let received = server.received();
    let options = received.items[0].options.as_ref().unwrap();
    let Some(DeadlineOption::Deadline(deadline)) = &options.deadline_option else {
        panic!("{options:?}");
    };
    assert_eq!((deadline.seconds, deadline.nanos), (0, 700_000_000));
}

/// A server that never answers an append.
struct Silent;

impl Script for Silent {
    fn append(&self, _: BatchAppendReq) -> Vec<BatchAppendResp> {
        Vec::new()
    }
}

#[tokio::test]
async fn an_append_that_is_never_answered_is_repeated_and_then_fails() {
    let server = StandIn::start(Silent).await;
    let url = format!("esdb://{}?tls=false&defaultDeadline=300", server.address());
    let streams = EventStreams::connect(&url).unwrap();
    let append = streams.append("s", Expected::NoStream, vec![event("A.v1")]);
    let outcome = soon(append).await;
    assert!(
        matches!(outcome, Err(AppendError::Unavailable(_))),
        "{outcome:?}"
    );
    let received = server.received();
    assert!(received.items.len() > 1);
    let first = &received.items[0].proposed_messages;
    assert!(
        received
            .items
            .iter()
            .all(|item| item.proposed_messages == *first)
    );
}
