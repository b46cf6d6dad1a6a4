//! The read model `statistics`: how many users were created, renamed and deleted, by the minute, hour and day.
//!
//! Invariants:
//! - An event is counted in the window of the time at which it was stored, however late it comes.
//! - What is counted of a user is kept beside the windows, so that a user who is made anew is counted once.
//! - The count that outlives a deleted user is the last word. It replaces what was counted of the user's events, of which some
//!   may have been missing.

mod count;
mod statistics_tables;
mod windows;

pub use windows::{StatisticsError, WindowCount, WindowRange, WindowSize};

use super::{Generation, Projection, UserChanges};
use count::Counted;
use futures::future::{BoxFuture, FutureExt as _};
use sqlx::AnyConnection;
use std::collections::BTreeMap;

/// The statistics.
#[derive(Debug, Clone, Copy, Default)]
pub struct Statistics;

impl Projection for Statistics {
    fn name(&self) -> &'static str {
        "statistics"
    }

    fn schema(&self) -> &'static str {
        include_str!("../../tables/statistics.sql")
    }

    fn tables_of_users(&self) -> &'static [&'static str] {
        &["counts"]
    }

    fn reads_counts(&self) -> bool {
        true
    }

    fn apply<'a>(
        &'a self,
        generation: &'a Generation,
        transaction: &'a mut AnyConnection,
        changes: &'a [UserChanges<'a>],
    ) -> BoxFuture<'a, Result<(), sqlx::Error>> {
        async move {
            let dialect = generation.database().dialect();
            let known: Vec<_> = changes.iter().map(|changes| changes.user).collect();
            let before = statistics_tables::load(dialect, transaction, &known).await?;
            let mut after = BTreeMap::new();
            for changes in changes {
                let counted = before.get(&changes.user).cloned();
                after.insert(changes.user, Counted::evolve(counted, changes));
            }
            statistics_tables::write(dialect, transaction, &before, &after).await
        }
        .boxed()
    }
}
