//! The one task of a view that applies events. Batches that arrive while a transaction runs share the next one, so four
//! partitions neither contend for the database nor pay for four transactions.
//!
//! Invariant: a batch is answered after the commit of the transaction that it was applied in.

use super::{Outcome, Target, entries};
use crate::domain::UserId;
use crate::read_model::ProvenEvent;
use std::collections::BTreeSet;
use tokio::sync::{mpsc, oneshot};

/// How many batches wait at most, and how many share a transaction.
const BATCHES: usize = 16;

/// Hands batches to the task.
#[derive(Debug, Clone)]
pub(super) struct Writer(mpsc::Sender<Submission>);

#[derive(Debug)]
struct Submission {
    events: Vec<ProvenEvent>,
    outcomes: oneshot::Sender<Result<Vec<Outcome>, sqlx::Error>>,
}

impl Writer {
    /// Starts the task. It ends when the last clone of this value is dropped.
    pub(super) fn start(target: Target) -> Self {
        let (batches, waiting) = mpsc::channel(BATCHES);
        tokio::spawn(run(target, waiting));
        Self(batches)
    }

    pub(super) async fn apply(
        &self,
        events: Vec<ProvenEvent>,
    ) -> Result<Vec<Outcome>, sqlx::Error> {
        let (outcomes, answer) = oneshot::channel();
        let sent = self.0.send(Submission { events, outcomes }).await;
        sent.map_err(|_| sqlx::Error::WorkerCrashed)?;
        answer.await.map_err(|_| sqlx::Error::WorkerCrashed)?
    }
}

async fn run(target: Target, mut waiting: mpsc::Receiver<Submission>) {
    let mut batches = Vec::with_capacity(BATCHES);
    while waiting.recv_many(&mut batches, BATCHES).await > 0 {
        let together = apply(&target, batches.iter().flat_map(|batch| &batch.events)).await;
        let mut together = together.ok().map(Vec::into_iter);
        for batch in batches.drain(..) {
            let outcomes = match &mut together {
                Some(outcomes) => Ok(outcomes.take(batch.events.len()).collect()),
                // A batch that cannot be applied must not fail the others.
                None => apply(&target, batch.events.iter()).await,
            };
            // The caller may have gone; the batch is applied all the same.
            let _ = batch.outcomes.send(outcomes);
        }
    }
}

async fn apply<'a>(
    target: &Target,
    events: impl Iterator<Item = &'a ProvenEvent> + Clone,
) -> Result<Vec<Outcome>, sqlx::Error> {
    let users: BTreeSet<UserId> = events.clone().map(|event| event.user).collect();
    let mut transaction = target.begin().await?;
    let mut known = entries::load(target.dialect(), &mut transaction, &users).await?;
    let mut outcomes = Vec::new();
    for event in events {
        outcomes.push(known.entry(event.user).or_default().take(event));
    }
    target.commit(transaction, known).await?;
    tracing::debug!(events = outcomes.len(), "applied events");
    Ok(outcomes)
}
