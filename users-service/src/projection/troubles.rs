//! What is wrong with each of the projector's loops, told as two states: whether its queues are consumed, and whether the
//! view is compared with the log.

use crate::integration::consumer::{PARTITIONS, queue};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The loop that compares the view with the log; the others are named for their queues.
pub(super) const COMPLETENESS: &str = "completeness";

pub(super) type State = watch::Sender<Result<(), String>>;

/// The loops that do not work, and why; at first none works.
pub(super) struct Troubles<'a> {
    consuming: &'a State,
    completeness: &'a State,
    queues: Mutex<BTreeMap<String, String>>,
}

impl<'a> Troubles<'a> {
    pub(super) fn new(consuming: &'a State, completeness: &'a State) -> Self {
        let queues = (0..PARTITIONS).map(queue);
        let starting = queues.map(|queue| (queue, "starting".to_owned()));
        Self {
            consuming,
            completeness,
            queues: Mutex::new(starting.collect()),
        }
    }

    /// Notes how the loop `part` fares.
    pub(super) fn tell(&self, part: &str, told: Result<(), &anyhow::Error>) {
        let told = told.map_err(|error| format!("{error:#}"));
        if let Err(error) = &told {
            tracing::warn!(part, error, "the view cannot be brought up to date");
        }
        if part == COMPLETENESS {
            set(self.completeness, told);
        } else {
            set(self.consuming, self.of_all_queues(part, told));
        }
    }

    /// The state of all queues, now that one of them has this one.
    fn of_all_queues(&self, queue: &str, told: Result<(), String>) -> Result<(), String> {
        let mut queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Ok(()) => queues.remove(queue),
            Err(error) => queues.insert(queue.to_owned(), error),
        };
        match queues.first_key_value() {
            Some((queue, trouble)) => Err(format!("{queue}: {trouble}")),
            None => Ok(()),
        }
    }
}

fn set(state: &State, told: Result<(), String>) {
    state.send_if_modified(|state| {
        let changed = *state != told;
        *state = told;
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
        let troubles = Troubles::new(&consuming, &completeness);
        for partition in 0..PARTITIONS {
            assert!(consuming.borrow().is_err(), "{partition} is not consumed");
            troubles.tell(&queue(partition), Ok(()));
        }
        troubles.tell(COMPLETENESS, Err(&anyhow::anyhow!("the store is away")));
        assert_eq!(*consuming.borrow(), Ok(()));
        assert_eq!(*completeness.borrow(), Err("the store is away".to_owned()));
        troubles.tell(&queue(1), Err(&anyhow::anyhow!("no leader")));
        troubles.tell(COMPLETENESS, Ok(()));
        let told = consuming.borrow().clone().unwrap_err();
        assert_eq!(told, format!("{}: no leader", queue(1)));
        assert_eq!(*completeness.borrow(), Ok(()));
    }
}
