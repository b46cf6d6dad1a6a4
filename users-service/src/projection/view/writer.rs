//! The one task of a view that applies events. Batches that arrive while a transaction runs share the next one, so four
//! partitions neither contend for the database nor pay for four transactions.
//!
//! Invariant: a batch is answered after the commit of the transaction that it was applied in.

use super::{Outcome, begin, commit, rows};
use crate::domain::UserId;
use crate::projection::directory::DirectoryEvent;
use crate::read_model::ReadModel;
use std::collections::BTreeSet;
use tokio::sync::{mpsc, oneshot};

/// How many batches wait at most, and how many share a transaction.
const BATCHES: usize = 16;

/// Hands batches to the task.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Submission>);

#[derive(Debug)]
struct Submission {
    events: Vec<DirectoryEvent>,
    outcomes: oneshot::Sender<Result<Vec<Outcome>, sqlx::Error>>,
}

impl Writer {
    /// Starts the task. It ends when the last clone of this value is dropped.
    pub(super) fn start(read_model: ReadModel) -> Self {
        let (batches, waiting) = mpsc::channel(BATCHES);
        tokio::spawn(run(read_model, waiting));
        Self(batches)
    }

    pub(super) async fn apply(
        &self,
        events: Vec<DirectoryEvent>,
    ) -> Result<Vec<Outcome>, sqlx::Error> {
        let (outcomes, answer) = oneshot::channel();
        let sent = self.0.send(Submission { events, outcomes }).await;
        sent.map_err(|_| sqlx::Error::WorkerCrashed)?;
        answer.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

async fn run(read_model: ReadModel, mut waiting: mpsc::Receiver<Submission>) {
    let mut batches = Vec::with_capacity(BATCHES);
    while waiting.recv_many(&mut batches, BATCHES).await > 0 {
        let together = apply(&read_model, batches.iter().flat_map(|batch| &batch.events)).await;
        let mut together = together.ok().map(Vec::into_iter);
        for batch in batches.drain(..) {
            let outcomes = match &mut together {
                Some(outcomes) => Ok(outcomes.take(batch.events.len()).collect()),
                // A batch that cannot be applied must not fail the others.
                None => apply(&read_model, batch.events.iter()).await,
            };
            // The caller may have gone; the batch is applied all the same.
            let _ = batch.outcomes.send(outcomes);
        }
    }
}

async fn apply(
    read_model: &ReadModel,
    events: impl Iterator<Item = &DirectoryEvent> + Clone,
) -> Result<Vec<Outcome>, sqlx::Error> {
    let users: BTreeSet<UserId> = events.clone().map(|event| event.user).collect();
    let mut transaction = begin(read_model).await?;
    let mut known = rows::load(&mut transaction, &users).await?;
    let take = |event: &DirectoryEvent| known.entry(event.user).or_default().take(event);
    let outcomes: Vec<_> = events.map(take).collect();
    commit(transaction, &known).await?;
    tracing::debug!(events = outcomes.len(), "applied events");
    Ok(outcomes)
}
