//! Repair of the generation that readers use, for operators.

use super::repair::Repair;
use super::view::View;
use crate::operations::OperationError;
use crate::privacy::subject_keys::SubjectKeys;
use crate::read_model::{CurrentGeneration, Generation, Projection};
use event_streams::EventStreams;
use std::sync::Arc;

/// Finds the generation for each operation.
#[derive(Debug, Clone)]
pub struct CurrentRepair {
    current: CurrentGeneration,
    projection: Arc<dyn Projection>,
    store: EventStreams,
    keys: SubjectKeys,
}

impl CurrentRepair {
    /// Reads from this store and these keys.
    #[must_use]
    pub fn new(
        current: CurrentGeneration,
        projection: Arc<dyn Projection>,
        (store, keys): (EventStreams, SubjectKeys),
    ) -> Self {
        Self {
            current,
            projection,
            store,
            keys,
        }
    }

    /// The name of the read model.
    #[must_use]
    pub fn read_model(&self) -> &'static str {
        self.projection.name()
    }

    /// The generation that readers use now.
    ///
    /// # Errors
    /// If none is built yet.
    pub fn generation(&self) -> Result<Generation, OperationError> {
        let generation = self.current.get();
        generation.ok_or_else(|| {
            anyhow::anyhow!("the read model is being built from the log; try again later").into()
        })
    }

    /// Repairs that generation.
    ///
    /// # Errors
    /// If none is built yet.
    pub fn repair(&self) -> Result<Repair, OperationError> {
        let view = View::new(self.generation()?, Arc::clone(&self.projection));
        Ok(Repair::new(self.store.clone(), self.keys.clone(), view))
    }
}
