//! Many ids from several machines while everything goes wrong: clocks that step, processes that restart, a store that is
//! away for longer than a window, and a store that is restored from an older backup. No id is issued twice.
//!
//! `IDS` says how many ids to take; `make test-long-ids` takes 100 million.

use std::{cell::Cell, collections::BTreeMap, sync::Arc};

use event_streams::{EventStreams, Expected};
use futures::future::join_all;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};
use reqwest::StatusCode;
use tempfile::TempDir;

use crate::{
    floors::set_floor,
    restores::until_ms,
    rivals::{occupy_all_but, window},
    seen::Seen,
    support::{
        Backup, ManualClock, SOME_DAY_MS, Store, TestApp, ids_to_take, spawn_app, spawn_in, until,
    },
};

const MACHINES: usize = 4;
const SECOND_MS: i64 = 1_000;
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// What happens between two bursts of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    /// The clock of one machine steps by so many milliseconds.
    Step(i64),
    /// The clock of one machine steps ahead, ids are issued, and it steps back again.
    AheadAndBack(i64),
    /// The process of one machine restarts, while its clock steps.
    Restart(i64),
    /// The store is away until the windows of all processes are over.
    StoreAway,
    BackUp,
    /// All processes stop, the store is restored, a floor is set, and the processes start.
    Restore,
}

const EVENTS: [Event; 14] = [
    Event::Step(1_500),
    Event::Step(-SECOND_MS),
    Event::Restart(0),
    Event::Step(-HOUR_MS),
    Event::Restart(-SECOND_MS),
    Event::BackUp,
    Event::AheadAndBack(DAY_MS),
    Event::Restart(-HOUR_MS),
    Event::StoreAway,
    Event::Step(DAY_MS),
    Event::AheadAndBack(HOUR_MS),
    Event::Restore,
    Event::Restart(DAY_MS),
    Event::AheadAndBack(30 * SECOND_MS),
];

struct Machine {
    clock: Arc<ManualClock>,
    data: TempDir,
    app: TestApp,
}

struct Campaign {
    store: Store,
    backup: Backup,
    machines: Vec<Machine>,
    random: StdRng,
    seen: Seen,
    happened: BTreeMap<Event, u32>,
}

impl Campaign {
    async fn begin() -> Self {
        let mut store = Store::start().await;
        let machines = (0..MACHINES).map(|_| {
            let clock = ManualClock::at(SOME_DAY_MS);
            let data = tempfile::tempdir().unwrap();
            let app = spawn_in(data.path(), &store.url(), clock.clone());
            Machine { clock, data, app }
        });
        let machines = machines.collect();
        let seed = rand::random();
        eprintln!("the seed is {seed}");
        Self {
            backup: store.back_up().await,
            store,
            machines,
            random: StdRng::seed_from_u64(seed),
            seen: Seen::default(),
            happened: BTreeMap::new(),
        }
    }

    /// All machines issue ids at once, while their clocks go on.
    async fn burst(&mut self) {
        let most = if ids_to_take() > 10_000_000 { 60 } else { 6 };
        let batches = self.random.random_range(1..=most);
        let bursts = self.machines.iter().map(|machine| machine.burst(batches));
        for ids in join_all(bursts).await {
            self.seen.add(ids);
        }
        self.seen.assert_none_twice();
    }

    async fn happens(&mut self, event: Event) {
        *self.happened.entry(event).or_default() += 1;
        let chosen = self.random.random_range(0..MACHINES);
        match event {
            Event::Step(by_ms) => self.machines[chosen].clock.step(by_ms),
            Event::AheadAndBack(by_ms) => {
                let clock = self.machines[chosen].clock.clone();
                clock.step(by_ms);
                self.machines[chosen].app.leased().await;
                self.burst().await;
                clock.step(-by_ms);
            }
            Event::Restart(by_ms) => self.restart(chosen, by_ms).await,
            Event::StoreAway => {
                self.store.stop().await;
                for _ in 0..3 {
                    self.burst().await;
                    for machine in &self.machines {
                        machine.clock.step(25 * SECOND_MS);
                    }
                }
                self.store.start_again().await;
            }
            Event::BackUp => self.backup = self.store.back_up().await,
            Event::Restore => self.restore().await,
        }
        self.all_issue_again().await;
    }

    async fn restart(&mut self, chosen: usize, by_ms: i64) {
        let machine = self.machines.swap_remove(chosen);
        machine.app.stop().await;
        machine.clock.step(by_ms);
        let Machine { clock, data, .. } = machine;
        let app = spawn_in(data.path(), &self.store.url(), clock.clone());
        self.machines.push(Machine { clock, data, app });
    }

    async fn restore(&mut self) {
        let mut stopped = Vec::new();
        for Machine { clock, data, app } in self.machines.drain(..) {
            app.stop().await;
            stopped.push((clock, data));
        }
        self.store.restore(&self.backup).await;
        let floor_ms = stopped.iter().map(|(_, data)| until_ms(data.path())).max();
        let floor_ms = floor_ms.unwrap();
        for (clock, data) in stopped {
            clock.set(floor_ms);
            if self.machines.is_empty() {
                let floor = set_floor(&self.store, data.path(), floor_ms, &clock);
                floor.await.unwrap();
            }
            let app = spawn_in(data.path(), &self.store.url(), clock.clone());
            self.machines.push(Machine { clock, data, app });
        }
    }

    /// Waits until every machine issues ids. Their clocks go on meanwhile, faster and faster: after a step back below the floor
    /// of a restore, no number is free before the clock has reached the floor.
    async fn all_issue_again(&mut self) {
        for machine in &self.machines {
            let pause_ms = Cell::new(SECOND_MS);
            let ids = until("the machine issues ids", || async {
                let ids = machine.app.lines("/?count=9").await;
                if ids.is_err() {
                    machine.clock.step(pause_ms.get());
                    pause_ms.set((2 * pause_ms.get()).min(HOUR_MS / 6));
                }
                ids.ok()
            });
            self.seen.add(ids.await);
        }
    }
}

impl Machine {
    /// Takes batches of 10,000, as fast as the clock allows; fewer if the service has no window for more.
    async fn burst(&self, batches: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        for _ in 0..batches {
            let answer = self.app.lines("/?count=10000").await;
            let Ok(ids) = answer else {
                assert_eq!(answer.unwrap_err(), StatusCode::SERVICE_UNAVAILABLE);
                break;
            };
            assert_eq!(ids.len(), 10_000);
            taken.extend(ids);
            self.clock.step(3);
        }
        taken
    }
}

#[tokio::test]
async fn no_id_is_issued_twice_whatever_happens() {
    let mut campaign = Campaign::begin().await;
    campaign.all_issue_again().await;
    let mut events = EVENTS.iter().cycle();
    let is_whole_round = |campaign: &Campaign| campaign.happened.len() == EVENTS.len();
    while campaign.seen.count() < ids_to_take() || !is_whole_round(&campaign) {
        campaign.burst().await;
        campaign.happens(*events.next().unwrap()).await;
    }
    campaign.burst().await;
    let (count, twice) = (campaign.seen.count(), campaign.seen.twice().len());
    eprintln!("{count} ids, {twice} twice, during {:?}", campaign.happened);
}

#[tokio::test]
async fn without_a_floor_a_restored_store_leads_to_duplicates_and_they_are_reported() {
    let mut store = Store::start().await;
    let streams = EventStreams::connect(&store.url()).unwrap();
    occupy_all_but(77, SOME_DAY_MS + 3_600_000, &streams).await;
    let over = window(SOME_DAY_MS - 60_000, SOME_DAY_MS);
    streams
        .append("uuids-worker-77", Expected::NoStream, vec![over])
        .await
        .unwrap();
    let backup = store.back_up().await;
    let mut seen = Seen::default();
    // Each machine is a new one, so it has no record of the windows that the backup lacks.
    for _ in 0..2 {
        let app = spawn_app(&store.url(), &ManualClock::at(SOME_DAY_MS));
        app.leased().await;
        seen.add(app.ids("count=10000").await);
        app.stop().await;
        store.restore(&backup).await;
    }
    assert_eq!(seen.count(), 20_000);
    assert_eq!(seen.twice().len(), 10_000);
}
