//! The health of the projector's loops, reported as two states: whether its queues are consumed, and whether the view is
//! compared with the log.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The name of the loop that compares the view with the log. The other loops are named after their queues.
pub(super) const COMPLETENESS: &str = "completeness";

pub(super) type State = watch::Sender<Result<(), String>>;

/// The failed loops with their reasons. At first every loop counts as failed.
pub(super) struct Health<'a> {
    consuming: &'a State,
    completeness: &'a State,
    queues: Mutex<BTreeMap<String, String>>,
}

impl<'a> Health<'a> {
    /// The health of a projector with these queues.
    pub(super) fn new(
        consuming: &'a State,
        completeness: &'a State,
        queues: impl Iterator<Item = String>,
    ) -> Self {
        let starting = queues.map(|queue| (queue, "starting".to_owned()));
        Self {
            consuming,
            completeness,
            queues: Mutex::new(starting.collect()),
        }
    }

    /// Notes the status of the loop `part`.
    pub(super) fn report(&self, part: &str, status: Result<(), &anyhow::Error>) {
        let status = status.map_err(|error| format!("{error:#}"));
        if let Err(error) = &status {
            tracing::warn!(part, error, "the view cannot be brought up to date");
        }
        if part == COMPLETENESS {
            set(self.completeness, status);
        } else {
            set(self.consuming, self.of_all_queues(part, status));
        }
    }

    /// The state of all queues after one of them has changed its status.
    fn of_all_queues(&self, queue: &str, status: Result<(), String>) -> Result<(), String> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match status {
            Ok(()) => queues.remove(queue),
            Err(error) => queues.insert(queue.to_owned(), error),
        };
        match queues.first_key_value() {
            Some((queue, trouble)) => Err(format!("{queue}: {trouble}")),
            None => Ok(()),
        }
    }
}

/// Changes a state, and wakes its readers only if it is another one.
pub(super) fn set(state: &State, status: Result<(), String>) {
    state.send_if_modified(|state| {
        let changed = *state != status;
        *state = status;
        changed
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comparison_that_fails_does_not_say_that_the_queues_are_not_consumed() {
        let starting = || watch::Sender::new(Err("starting".to_owned()));
        let (consuming, completeness) = (starting(), starting());
        let queues = ["a.0", "a.1"].map(str::to_owned);
        let health = Health::new(&consuming, &completeness, queues.iter().cloned());
        for queue in &queues {
            assert!(consuming.borrow().is_err(), "{queue} is not consumed");
            health.report(queue, Ok(()));
        }
        health.report(COMPLETENESS, Err(&anyhow::anyhow!("the store is away")));
        assert_eq!(*consuming.borrow(), Ok(()));
        assert_eq!(*completeness.borrow(), Err("the store is away".to_owned()));
        health.report(&queues[1], Err(&anyhow::anyhow!("no leader")));
        health.report(COMPLETENESS, Ok(()));
        let status = consuming.borrow().clone().unwrap_err();
        assert_eq!(status, format!("{}: no leader", queues[1]));
        assert_eq!(*completeness.borrow(), Ok(()));
    }
}
