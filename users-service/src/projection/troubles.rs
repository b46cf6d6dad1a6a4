//! What is wrong with each of the projector's loops, told as one state.

use crate::integration::consumer::{PARTITIONS, queue};
use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use tokio::sync::watch;

/// The loop that compares the view with the log; the others are named for their queues.
pub(super) const COMPLETENESS: &str = "completeness";

type State = watch::Sender<Result<(), String>>;

/// The loops that do not work, and why; at first none works.
pub(super) struct Troubles<'a> {
    state: &'a State,
    troubles: Mutex<BTreeMap<String, String>>,
}

impl<'a> Troubles<'a> {
    pub(super) fn new(state: &'a State) -> Self {
        let parts = (0..PARTITIONS).map(queue).chain([COMPLETENESS.to_owned()]);
        let starting = parts.map(|part| (part, "starting".to_owned()));
        Self {
            state,
            troubles: Mutex::new(starting.collect()),
        }
    }

    pub(super) fn tell(&self, part: &str, told: Result<(), &anyhow::Error>) {
        let mut troubles = self.troubles.lock().unwrap_or_else(PoisonError::into_inner);
        match told {
            Ok(()) => {
                troubles.remove(part);
            }
            Err(error) => {
                let error = format!("{error:#}");
                tracing::warn!(part, error, "the view cannot be brought up to date");
                troubles.insert(part.to_owned(), error);
            }
        }
        let first = troubles.iter().next();
        let told = first.map_or(Ok(()), |(part, trouble)| Err(format!("{part}: {trouble}")));
        self.state.send_if_modified(|state| {
            let changed = *state != told;
            *state = told;
            changed
        });
    }
}
