//! Runs the projectors of one read model: that of the generation that readers use, and the building of another one.
//!
//! Invariants:
//! - A generation is built from the log alone. Its queues are bound before the log's end is read, so nothing falls between.
//! - Readers change to it when it has everything up to the log's end, and its queues hold only what came since.
//! - A retired generation is deleted when every reader has long changed. Its dead letters stay, if there are any.

mod building;
mod retiring;

use super::health::{State, set};
use super::projector::Projector;
use super::repair::Repair;
use super::view::View;
use crate::clock::Clock;
use crate::privacy::subject_keys::SubjectKeys;
use crate::read_model::{Generation, GenerationRecord, GenerationState, Projection, Registry};
use event_streams::EventStreams;
use jittered_backoff::Backoff;
use messaging::Broker;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// How often the list of generations is read.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// How long a retired generation is kept for readers that have not changed yet, in milliseconds.
const GRACE: u64 = 10_000;

/// The projectors of one read model.
#[derive(Debug, Clone)]
pub struct Host {
    registry: Registry,
    projection: Arc<dyn Projection>,
    /// The number of queues of a first generation.
    partitions: u32,
    store: EventStreams,
    keys: SubjectKeys,
    broker: Broker,
    clock: Clock,
    check_every: Duration,
    completeness: Arc<State>,
    deliveries: Arc<State>,
    building: Arc<State>,
}

/// A generation that a task works on. The task ends at once if this is dropped.
struct HostedTask {
    number: u32,
    stop: CancellationToken,
    task: AbortOnDropHandle<anyhow::Result<()>>,
}

impl HostedTask {
    /// Ends the task cleanly.
    async fn stop(self) {
        self.stop.cancel();
        // It has reported why, if it failed.
        let _ = self.task.await;
    }
}

impl Host {
    /// Hosts this read model. A first generation has so many queues. `check_every` is the interval between two comparisons of a
    /// view with the log.
    #[must_use]
    pub fn new(
        (registry, projection, partitions): (Registry, Arc<dyn Projection>, u32),
        (store, keys, broker): (EventStreams, SubjectKeys, Broker),
        clock: Clock,
        check_every: Duration,
    ) -> Self {
        let state = |state| Arc::new(watch::Sender::new(state));
        Self {
            registry,
            projection,
            partitions,
            store,
            keys,
            broker,
            clock,
            check_every,
            completeness: state(Err("starting".to_owned())),
            deliveries: state(Ok(())),
            building: state(Ok(())),
        }
    }

    /// Holds the reason if the view is not compared with the log.
    #[must_use]
    pub fn completeness(&self) -> watch::Receiver<Result<(), String>> {
        self.completeness.subscribe()
    }

    /// Names a lost message, if there are any.
    #[must_use]
    pub fn deliveries(&self) -> watch::Receiver<Result<(), String>> {
        self.deliveries.subscribe()
    }

    /// Holds the reason if a generation cannot be built.
    #[must_use]
    pub fn building(&self) -> watch::Receiver<Result<(), String>> {
        self.building.subscribe()
    }

    /// Runs until `shutdown`. `state` holds the reason if messages are not applied.
    ///
    /// # Errors
    /// None. Everything that fails is tried again.
    pub async fn run(
        &self,
        state: &Arc<State>,
        shutdown: &CancellationToken,
    ) -> anyhow::Result<()> {
        let (mut projecting, mut building) = (None, None);
        let mut backoff = Backoff::default();
        while !shutdown.is_cancelled() {
            let looking = self.look(state, &mut projecting, &mut building);
            let wait = match shutdown.run_until_cancelled(looking).await {
                None => break,
                Some(Ok(())) => {
                    backoff.reset();
                    LOOK_EVERY
                }
                Some(Err(error)) => {
                    if projecting.is_none() {
                        set(state, Err(format!("{error:#}")));
                    }
                    let read_model = self.projection.name();
                    tracing::warn!(error = format!("{error:#}"), read_model, "generations fail");
                    backoff.step()
                }
            };
            shutdown.run_until_cancelled(tokio::time::sleep(wait)).await;
        }
        for running in [projecting, building].into_iter().flatten() {
            HostedTask::stop(running).await;
        }
        Ok(())
    }

    /// Reads the list of generations, and starts and stops what it asks for.
    async fn look(
        &self,
        state: &Arc<State>,
        projecting: &mut Option<HostedTask>,
        building: &mut Option<HostedTask>,
    ) -> anyhow::Result<()> {
        let all = self.registry.generations(self.projection.name()).await?;
        let of_state = |state| all.iter().find(move |one| one.state == state);
        let current = of_state(GenerationState::Current);
        let wanted = of_state(GenerationState::Building);
        self.begin_another(current, wanted).await?;
        if current.is_none() {
            let text = "it is being built from the log";
            let reason = self.building.borrow().clone();
            set(state, Err(reason.err().unwrap_or_else(|| text.to_owned())));
        }
        for (record, running, builds) in [(wanted, building, true), (current, projecting, false)] {
            let is_running = running
                .as_ref()
                .filter(|running| !running.task.is_finished());
            if is_running.map(|running| running.number) == record.map(|record| record.number) {
                continue;
            }
            let earlier = running.take();
            if let Some(record) = record {
                *running = Some(self.start(record, builds, state)?);
            }
            if let Some(earlier) = earlier {
                earlier.stop().await;
            }
        }
        let now = self.clock.now();
        let retired = all
            .iter()
            .filter(|one| one.state == GenerationState::Retired);
        for retired in retired.filter(|one| now.saturating_sub(one.since) > GRACE) {
            self.retire(retired).await?;
        }
        Ok(())
    }

    /// Begins a first generation, and another one if this version of the program keeps something else.
    async fn begin_another(
        &self,
        current: Option<&GenerationRecord>,
        building: Option<&GenerationRecord>,
    ) -> anyhow::Result<()> {
        let version = self.projection.version();
        for existing in [current, building].into_iter().flatten() {
            anyhow::ensure!(
                existing.version <= version,
                "a newer version of the program has made generation {} of the read model",
                existing.number
            );
        }
        let is_current = current.is_some_and(|current| current.version == version);
        if building.is_none() && !is_current {
            let partitions = current.map_or(self.partitions, |current| current.partitions);
            let projection = self.projection.as_ref();
            let now = self.clock.now();
            self.registry.begin(projection, partitions, now).await?;
        }
        Ok(())
    }

    fn start(
        &self,
        record: &GenerationRecord,
        builds: bool,
        state: &Arc<State>,
    ) -> anyhow::Result<HostedTask> {
        let repair = self.repair(record)?;
        let stop = CancellationToken::new();
        let (host, state, stopped) = (self.clone(), Arc::clone(state), stop.clone());
        let task = tokio::spawn(async move {
            if builds {
                host.build(&repair, &stopped).await;
                return Ok(());
            }
            let states = (Arc::clone(&host.completeness), Arc::clone(&host.deliveries));
            let projector = Projector::new(repair, host.broker.clone(), host.check_every);
            let ended = projector.reporting_to(states).run(&state, &stopped).await;
            if let Err(error) = &ended {
                set(&state, Err(format!("{error:#}")));
            }
            ended
        });
        Ok(HostedTask {
            number: record.number,
            stop,
            task: AbortOnDropHandle::new(task),
        })
    }

    fn repair(&self, record: &GenerationRecord) -> anyhow::Result<Repair> {
        let generation = self.generation(record)?;
        let view = View::new(generation, Arc::clone(&self.projection));
        Ok(Repair::new(self.store.clone(), self.keys.clone(), view))
    }

    fn generation(&self, record: &GenerationRecord) -> Result<Generation, sqlx::Error> {
        let number = (record.number, record.partitions);
        let databases = self.registry.databases();
        Generation::lazy(databases, self.projection.as_ref(), number)
    }
}
