//! Two readers that take turns, so that one of them always reads an earlier state of the database.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};

use tokio::task::JoinSet;

use super::Readers;

#[derive(Default)]
struct State {
    ended: AtomicBool,
    /// How many reads each of the two readers has begun.
    begun: [AtomicU64; 2],
}

pub(in crate::storage) struct Turns {
    state: Arc<State>,
    readers: JoinSet<()>,
}

impl Turns {
    /// Ends the reads and returns their number.
    pub(in crate::storage) async fn end(mut self) -> u64 {
        self.state.ended.store(true, SeqCst);
        while let Some(ended) = self.readers.join_next().await {
            ended.unwrap();
        }
        self.state
            .begun
            .iter()
            .map(|begun| begun.load(SeqCst))
            .sum()
    }
}

/// Starts the readers. Both have begun to read when this returns.
pub(in crate::storage) async fn take(readers: &Arc<Readers>) -> Turns {
    let state = Arc::<State>::default();
    let mut tasks = JoinSet::new();
    for number in [0, 1] {
        let (readers, shared) = (Arc::clone(readers), Arc::clone(&state));
        tasks.spawn(async move {
            while !shared.ended.load(SeqCst) {
                read(&readers, number, &shared).await;
            }
        });
        while state.begun[number].load(SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    }
    Turns {
        state,
        readers: tasks,
    }
}

/// A read that ends when the other reader has begun its next read, or must wait to begin it.
async fn read(readers: &Arc<Readers>, number: usize, state: &Arc<State>) {
    let (slots, state) = (readers.slots.clone(), Arc::clone(state));
    let read = readers.run(move |connection| {
        connection.query_row("SELECT head FROM log", [], |_| Ok(()))?;
        let other = &state.begun[1 - number];
        let before = other.load(SeqCst);
        state.begun[number].fetch_add(1, SeqCst);
        let others_may_begin = || !slots.are_taken() && !state.ended.load(SeqCst);
        while other.load(SeqCst) == before && others_may_begin() {
            std::thread::yield_now();
        }
        Ok(())
    });
    read.await.unwrap();
}
