//! The read models of a process: what follows their generations, and what writes them.

use super::parts::{DIRECTORY_PARTITIONS, Parts, STATISTICS_PARTITIONS, directory, registry};
use super::supervisor::Supervisor;
use crate::config::Config;
use crate::projection::current_repair::CurrentRepair;
use crate::projection::holds;
use crate::read_model::{CurrentGeneration, GenerationFollower, Projection, Statistics};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use web::Importance;

/// How long a start waits for the generations.
const QUICK: Duration = Duration::from_secs(1);

/// The names of a read model's parts in readiness.
#[derive(Clone, Copy)]
struct ReadinessNames {
    follower: &'static str,
    projector: &'static str,
    completeness: &'static str,
    deliveries: &'static str,
    building: &'static str,
    held: &'static str,
}

const DIRECTORY: ReadinessNames = ReadinessNames {
    follower: "generations",
    projector: "projector",
    completeness: "completeness",
    deliveries: "deliveries",
    building: "building",
    held: "held users",
};

const STATISTICS: ReadinessNames = ReadinessNames {
    follower: "generations of statistics",
    projector: "projector of statistics",
    completeness: "completeness of statistics",
    deliveries: "deliveries of statistics",
    building: "building of statistics",
    held: "held users of statistics",
};

/// A read model, and the generation of it that readers use.
#[derive(Clone)]
pub(super) struct HostedReadModel {
    projection: Arc<dyn Projection>,
    follower: Arc<GenerationFollower>,
    partitions: u32,
    names: ReadinessNames,
}

/// The read models.
#[derive(Clone)]
pub(super) struct HostedReadModels {
    pub(super) directory: HostedReadModel,
    pub(super) statistics: HostedReadModel,
}

impl HostedReadModels {
    pub(super) fn new(config: &Config) -> anyhow::Result<Self> {
        let directory = Arc::new(directory(config)?);
        Ok(Self {
            directory: HostedReadModel::new(config, directory, DIRECTORY_PARTITIONS, DIRECTORY)?,
            statistics: HostedReadModel::new(
                config,
                Arc::new(Statistics),
                STATISTICS_PARTITIONS,
                STATISTICS,
            )?,
        })
    }

    fn all(&self) -> [&HostedReadModel; 2] {
        [&self.directory, &self.statistics]
    }

    /// Repairs each of them, for operators.
    pub(super) fn repairs(&self, parts: &Parts) -> [CurrentRepair; 2] {
        self.all().map(|read_model| read_model.repair(parts))
    }

    /// Finds the generations that readers use, at once if that is quick, and for ever.
    pub(super) async fn follow(&self, supervisor: &mut Supervisor) {
        for read_model in self.all() {
            // If it fails now, it is repeated.
            let _ = timeout(QUICK, read_model.look()).await;
            let follower = Arc::clone(&read_model.follower);
            let name = read_model.names.follower;
            supervisor.run_as(Importance::Useful, name, move |state, shutdown| {
                let follower = Arc::clone(&follower);
                async move {
                    let _ = state.send_replace(Ok(()));
                    shutdown.run_until_cancelled(follower.follow()).await;
                    Ok(())
                }
            });
        }
    }

    /// Starts the projectors.
    pub(super) fn project(
        &self,
        parts: &Parts,
        config: &Config,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<()> {
        for read_model in self.all() {
            read_model.project(parts, config, supervisor)?;
        }
        Ok(())
    }
}

impl HostedReadModel {
    fn new(
        config: &Config,
        projection: Arc<dyn Projection>,
        partitions: u32,
        names: ReadinessNames,
    ) -> anyhow::Result<Self> {
        let follower = GenerationFollower::new(registry(config)?, Arc::clone(&projection));
        Ok(Self {
            projection,
            follower: Arc::new(follower),
            partitions,
            names,
        })
    }

    pub(super) fn current(&self) -> CurrentGeneration {
        self.follower.current()
    }

    /// Repairs the generation that readers use.
    pub(super) fn repair(&self, parts: &Parts) -> CurrentRepair {
        parts.current_repair(self.current(), Arc::clone(&self.projection))
    }

    /// Looks once for the generation that readers use.
    ///
    /// # Errors
    /// If the database fails.
    pub(super) async fn look(&self) -> Result<(), sqlx::Error> {
        self.follower.look().await
    }

    fn project(
        &self,
        parts: &Parts,
        config: &Config,
        supervisor: &mut Supervisor,
    ) -> anyhow::Result<()> {
        let read_model = (Arc::clone(&self.projection), self.partitions);
        let host = Arc::new(parts.host(config, read_model)?);
        supervisor.report(self.names.completeness, host.completeness());
        supervisor.report(self.names.deliveries, host.deliveries());
        supervisor.report(self.names.building, host.building());
        let current = self.current();
        supervisor.check(self.names.held, move || {
            let generation = current.get();
            async move {
                match generation {
                    Some(generation) => holds::check(&generation).await,
                    None => Ok(()),
                }
            }
        });
        supervisor.run(self.names.projector, move |state, shutdown| {
            let host = Arc::clone(&host);
            async move { host.run(&state, &shutdown).await }
        });
        Ok(())
    }
}
