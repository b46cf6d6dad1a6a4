//! A cluster of three event stores whose leader changes in every way: users live while it resigns, dies, hangs, is cut off
//! from the others, or while gossip is wrong. Nothing acknowledged is lost, the feed is the log, and every subscription moves
//! to the new leader.
//!
//! `SYSTEM_TESTS_STORE_ROUNDS` is how often every fault happens; the default is 1.

mod lives;

use crate::feed::{Heard, listen};
use anyhow::{Result, ensure};
use event_streams::{EventStreams, ReadError};
use lives::{Life, Lives};
use private_broker::PrivateBroker;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use system_tests::audit::{audit, audit_finds_a_planted_loss, user_events};
use system_tests::client::id;
use system_tests::load::{Load, Outcome};
use system_tests::store_nodes::{NODES, StoreCluster};
use system_tests::system::Node;
use system_tests::{Part, System, Users, wait};
use tokio::task::JoinSet;
use tokio::time::Instant;

/// The users created during each fault over HTTP, and as many over the queue, each at 25 a second.
const USERS: usize = 50;
const PER_SECOND: u32 = 25;
/// The parts that look at the store for every report of their readiness. (uuids-service reports what its last lease found.)
const REPORTING: [Part; 4] = [Part::Api, Part::Projector, Part::Publisher, Part::Eraser];

/// What happens to the leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It becomes a follower, and its sessions end.
    Resigns,
    /// It becomes a follower, and passes on what its sessions bring.
    ResignsUnnoticed,
    /// It is gone, and comes back as a follower.
    Dies,
    /// It accepts connections and answers nothing, while another node leads.
    Hangs,
    /// It answers its clients that it is not ready, and its subscriptions are silent, while another node leads.
    IsCutOff,
    /// It is gone, and gossip names it for a while although another node leads.
    IsNamedThoughDead,
    /// Gossip names it beside the node that leads.
    IsOneOfTwo,
}

const FAULTS: [Fault; 7] = [
    Fault::Resigns,
    Fault::ResignsUnnoticed,
    Fault::Dies,
    Fault::Hangs,
    Fault::IsCutOff,
    Fault::IsNamedThoughDead,
    Fault::IsOneOfTwo,
];

fn rounds() -> usize {
    let rounds = std::env::var("SYSTEM_TESTS_STORE_ROUNDS").ok();
    rounds.and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// The system behind a cluster of stores, and what is known about its users.
struct Run {
    cluster: StoreCluster,
    system: System,
    users: Users,
    store: EventStreams,
    leader: usize,
    /// The number of subscriptions by the name of the connection.
    subscribers: BTreeMap<String, usize>,
    acknowledged: Vec<Value>,
    failed: usize,
    lives: Vec<Life>,
    heard: Heard,
    listening: JoinSet<()>,
}

impl Run {
    async fn begin() -> Result<Self> {
        let broker = Node::Shared(PrivateBroker::shared().await);
        let url = broker.vhost().await;
        let mut system = System::prepare(&Part::ROLES, broker, &url, "info")?;
        let address = system.address(Part::Store);
        let cluster = StoreCluster::start(address.expect("every system has a store")).await?;
        for part in REPORTING.into_iter().chain([Part::Uuids]) {
            system.set(part, "EVENTSTORE_URL", &cluster.url(&format!("{part:?}")))?;
        }
        for part in Part::ROLES {
            system.start_part(part).await?;
        }
        system.ready().await?;
        let (users, store) = (system.users()?, system.store()?);
        let (heard, mut listening) = (Heard::default(), JoinSet::new());
        let feed = "/events?from=start";
        listening.spawn(listen(users.clone(), feed, Arc::clone(&heard)));
        let subscribers = wait::until("all parts subscribe", || async {
            let subscribers = cluster.subscribers();
            for part in ["Api", "Publisher", "Eraser"] {
                let part = (0, part.to_owned());
                ensure!(subscribers.contains_key(&part), "{subscribers:?}");
            }
            Ok(subscribers)
        })
        .await?;
        let names = subscribers.into_iter();
        Ok(Self {
            cluster,
            system,
            users,
            store,
            leader: 0,
            subscribers: names.map(|((_, name), count)| (name, count)).collect(),
            acknowledged: Vec::new(),
            failed: 0,
            lives: Vec::new(),
            heard,
            listening,
        })
    }

    /// Whether every subscription is open at this node, and none elsewhere.
    fn all_at(&self, node: usize) -> Result<()> {
        let expected = self.subscribers.iter();
        let expected = expected.map(|(name, count)| ((node, name.clone()), *count));
        let open = self.cluster.subscribers();
        ensure!(open == expected.collect(), "at {node}: {open:?}");
        Ok(())
    }

    /// Waits until everything has moved to the node that leads now, but for uuids-service, which asks the store at its next lease.
    async fn moved(&self, leader: usize) -> Result<()> {
        wait::until("every subscription is at the new leader", || async {
            self.all_at(leader)
        })
        .await?;
        for part in REPORTING {
            self.system.part_ready(part).await?;
        }
        Ok(())
    }

    fn elect(&self, leader: usize) {
        self.cluster.change(|view| view.leader = Some(leader));
    }

    /// Waits until each of these parts reports that it has no store.
    async fn unready(&self) -> Result<()> {
        for part in REPORTING {
            wait::until(&format!("{part:?} reports the missing store"), || {
                self.reports_no_store(part)
            })
            .await?;
        }
        Ok(())
    }

    async fn reports_no_store(&self, part: Part) -> Result<()> {
        let (_, body) = self.system.readiness(part).await?;
        let state = body["dependencies"]["event store"].as_str();
        let is_down = state.is_some_and(|state| state.starts_with("down: "));
        ensure!(is_down && body["status"] != "ready", "{body}");
        Ok(())
    }

    /// Lets the fault happen to the leader and waits until the next node leads.
    async fn suffer(&self, fault: Fault, next: usize) -> Result<()> {
        let former = self.cluster.proxy(self.leader);
        match fault {
            Fault::Resigns | Fault::ResignsUnnoticed => {
                self.cluster.change(|view| {
                    view.leader = None;
                    view.passes_on = fault == Fault::ResignsUnnoticed;
                });
                self.unready().await?;
                self.elect(next);
                self.moved(next).await?;
            }
            Fault::Dies => {
                former.close();
                self.cluster.change(|view| view.leader = None);
                self.unready().await?;
                self.elect(next);
                self.moved(next).await?;
                former.open();
            }
            Fault::Hangs => {
                former.hold();
                self.elect(next);
                self.moved(next).await?;
                former.release();
            }
            Fault::IsCutOff => {
                self.cluster.change(|view| {
                    view.isolated = Some(self.leader);
                    view.leader = Some(next);
                });
                self.moved(next).await?;
                self.cluster.change(|view| view.isolated = None);
            }
            Fault::IsNamedThoughDead => {
                former.close();
                self.elect(next);
                self.cluster
                    .change(|view| view.claimed = Some(vec![self.leader]));
                self.unready().await?;
                self.cluster.change(|view| view.claimed = None);
                self.moved(next).await?;
                former.open();
            }
            Fault::IsOneOfTwo => {
                self.cluster.change(|view| {
                    view.leader = Some(next);
                    view.claimed = Some(vec![self.leader, next]);
                });
                self.moved(next).await?;
                self.cluster.change(|view| view.claimed = None);
            }
        }
        Ok(())
    }

    /// The fault happens while users live and others are created.
    async fn survives(&mut self, fault: Fault) -> Result<()> {
        let next = (self.leader + 1) % NODES;
        let lives = Lives::begin(&self.users);
        let direct = Load::begin(&self.users, USERS, PER_SECOND);
        let deferred = Load::begin_deferred(&self.users, USERS, PER_SECOND);
        direct.acknowledged(USERS / 4).await?;
        // Two controls: what is waited for below is not so now.
        ensure!(self.all_at(next).is_err(), "{fault:?}");
        ensure!(self.reports_no_store(Part::Api).await.is_err(), "{fault:?}");
        let began = Instant::now();
        self.suffer(fault, next).await?;
        let lasted = began.elapsed();
        self.leader = next;
        let ended = lives.end().await?;
        let (users, before) = (self.acknowledged.len(), self.lives.len());
        for load in [direct, deferred] {
            let Outcome {
                acknowledged,
                failures,
            } = load.finished().await?;
            self.acknowledged.extend(acknowledged);
            self.failed += failures.len();
        }
        let alive = ended.iter().filter(|life| !life.is_deleted);
        self.acknowledged
            .extend(alive.map(|life| life.user.clone()));
        eprintln!(
            "{fault:?}: {} lives and {} users acknowledged, {} requests failed so far, the leader was replaced after {lasted:.1?}",
            ended.len(),
            self.acknowledged.len() - users,
            self.failed
        );
        self.lives.extend(ended);
        self.nothing_is_lost(&self.acknowledged[users..], &self.lives[before..])
            .await?;
        eprintln!(
            "{fault:?}: everything checked after {:.1?}",
            began.elapsed()
        );
        Ok(())
    }

    async fn nothing_is_lost(&self, acknowledged: &[Value], lived: &[Life]) -> Result<()> {
        wait::until("nothing acknowledged is missing", || async {
            audit(acknowledged, &self.users, &self.store).await?.none()
        })
        .await?;
        for life in lived.iter().filter(|life| life.is_deleted) {
            wait::until("a deleted user is erased", || self.erased(&life.user)).await?;
        }
        wait::until("the feed is the log", || async {
            self.feed_is(&self.log().await?)
        })
        .await
    }

    async fn erased(&self, user: &Value) -> Result<()> {
        self.users.get(id(user)).await?.expect(404)?;
        let read = self.store.read_last(&format!("users-{}", id(user))).await;
        ensure!(read == Err(ReadError::StreamDeleted), "{read:?}");
        Ok(())
    }

    /// The user and the revision of every event of a user, in the order of the log.
    async fn log(&self) -> Result<Vec<(String, u64)>> {
        let events = user_events(&self.store).await?.into_iter();
        let of_users = events.filter(|(_, _, event_type)| !event_type.starts_with('$'));
        let of_users = of_users.filter_map(|(stream, revision, _)| {
            let user = stream.strip_prefix("users-")?;
            Some((user.to_owned(), revision))
        });
        Ok(of_users.collect())
    }

    /// Fails unless the listener has heard exactly this.
    fn feed_is(&self, log: &[(String, u64)]) -> Result<()> {
        let heard = self.heard.lock().unwrap_or_else(PoisonError::into_inner);
        let with_revision = heard.iter();
        let heard: Vec<_> = with_revision
            .filter_map(|(user, revision)| Some((user.clone(), (*revision)?)))
            .collect();
        let same = heard.iter().zip(log).take_while(|(a, b)| a == b).count();
        ensure!(
            heard == log,
            "{} heard, {} stored, the first {same} are the same",
            heard.len(),
            log.len()
        );
        Ok(())
    }

    /// Users whose creation had no answer may exist too, but the list shows only what is in the store.
    async fn no_ghosts(&self) -> Result<()> {
        for row in self.users.list(50).await? {
            let stored = self.users.get(id(&row)).await?.expect(200)?.body;
            ensure!(stored == row, "{row} is listed, {stored} is stored");
        }
        Ok(())
    }

    /// The controls: a lost user, and events that were lost, repeated or heard in another order, are found.
    async fn planted_faults_are_found(&mut self) -> Result<()> {
        let log = self.log().await?;
        let mut repeated = log.clone();
        repeated.push(log[0].clone());
        let mut swapped = log.clone();
        swapped.swap(0, 1);
        for planted in [&log[1..], repeated.as_slice(), swapped.as_slice()] {
            ensure!(self.feed_is(planted).is_err());
        }
        audit_finds_a_planted_loss(&self.acknowledged, &self.users, &self.store).await
    }

    /// Every node has led, and some refused: the services went through all of what the cluster can answer.
    fn every_node_was_used(&self) -> Result<()> {
        for node in 0..NODES {
            for what in ["gossip", "session", "append", "subscribe"] {
                let count = self.cluster.count(node, what);
                eprintln!("node {node}: {what} {count} times");
                ensure!(count > 0, "node {node}: no {what}");
            }
        }
        // Which node refuses is chance.
        for refusal in ["not-ready", "not-leader"] {
            let counts = (0..NODES).map(|node| self.cluster.count(node, refusal));
            let count: usize = counts.sum();
            eprintln!("{refusal} {count} times");
            ensure!(count > 0, "nobody was refused: {refusal}");
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_cluster_of_stores_whose_leader_changes_in_every_way_loses_nothing() -> Result<()> {
    let mut run = Run::begin().await?;
    for _ in 0..rounds() {
        for fault in FAULTS {
            run.survives(fault).await?;
        }
    }
    let audited = audit(&run.acknowledged, &run.users, &run.store).await?;
    audited.none()?;
    run.no_ghosts().await?;
    run.every_node_was_used()?;
    eprintln!(
        "{} users acknowledged and {} lives, each stored and listed once; {} events heard once in the order of the log",
        run.acknowledged.len(),
        run.lives.len(),
        run.log().await?.len()
    );
    run.planted_faults_are_found().await?;
    run.system.ready().await?;
    run.listening.shutdown().await;
    run.system.end();
    Ok(())
}
