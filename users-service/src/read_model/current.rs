//! The generation of a read model that readers use, as this process knows it.

use super::{Generation, GenerationState, Projection, Registry};
use jittered_backoff::Backoff;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;

/// How often a process looks for another generation. A retired one is deleted much later.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The generation that readers use.
#[derive(Debug, Clone)]
pub struct CurrentGeneration(watch::Receiver<Option<Generation>>);

/// Follows the registry.
#[derive(Debug)]
pub struct GenerationFollower {
    registry: Registry,
    projection: Arc<dyn Projection>,
    current: watch::Sender<Option<Generation>>,
}

impl CurrentGeneration {
    /// This generation for ever.
    #[must_use]
    pub fn always(generation: Generation) -> Self {
        Self(watch::channel(Some(generation)).1)
    }

    /// The generation. `None` if none is built yet.
    #[must_use]
    pub fn get(&self) -> Option<Generation> {
        self.0.borrow().clone()
    }

    /// Fails if there is none, or its database fails. For readiness.
    ///
    /// # Errors
    /// The text for readiness.
    pub async fn check(&self) -> Result<(), String> {
        let generation = self.get().ok_or("it is being built from the log")?;
        let checked = generation.check().await;
        checked.map_err(|error| error.to_string())
    }
}

impl GenerationFollower {
    /// Follows the generations of this read model.
    #[must_use]
    pub fn new(registry: Registry, projection: Arc<dyn Projection>) -> Self {
        Self {
            registry,
            projection,
            current: watch::Sender::new(None),
        }
    }

    /// The generation that readers use, at any time.
    #[must_use]
    pub fn current(&self) -> CurrentGeneration {
        CurrentGeneration(self.current.subscribe())
    }

    /// Follows for ever. A failure leaves the generation as it is.
    pub async fn follow(&self) {
        let mut backoff = Backoff::default();
        loop {
            match self.look().await {
                Ok(()) => {
                    backoff.reset();
                    tokio::time::sleep(LOOK_EVERY).await;
                }
                Err(error) => {
                    let read_model = self.projection.name();
                    tracing::warn!(%error, read_model, "the generations cannot be read");
                    backoff.pause().await;
                }
            }
        }
    }

    /// Looks once.
    ///
    /// # Errors
    /// If the database fails.
    pub async fn look(&self) -> Result<(), sqlx::Error> {
        let all = self.registry.generations(self.projection.name()).await?;
        let mut current = all
            .iter()
            .filter(|one| one.state == GenerationState::Current);
        let Some(current) = current.next() else {
            return Ok(());
        };
        let known = self.current.borrow().as_ref().map(Generation::number);
        if known != Some(current.number) {
            let number = (current.number, current.partitions);
            let databases = self.registry.databases();
            let generation = Generation::lazy(databases, self.projection.as_ref(), number)?;
            self.current.send_replace(Some(generation));
        }
        Ok(())
    }
}
