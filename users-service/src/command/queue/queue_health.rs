//! The health of the consumer of commands: whether the queue is open, and how many commands wait for something that is away.

use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// The health, as readiness shows it.
#[derive(Debug)]
pub(super) struct QueueHealth<'a> {
    shown: &'a watch::Sender<Result<(), String>>,
    now: Mutex<Now>,
}

#[derive(Debug)]
struct Now {
    /// The reason why the queue is not open.
    closed: Option<String>,
    /// The number of commands that wait.
    waiting: usize,
    /// The last reason why a command waits.
    reason: String,
}

/// A command that waits. Dropping it ends the wait.
#[derive(Debug)]
pub(super) struct WaitingCommand<'a>(&'a QueueHealth<'a>);

impl<'a> QueueHealth<'a> {
    pub(super) fn new(shown: &'a watch::Sender<Result<(), String>>) -> Self {
        let now = Mutex::new(Now {
            closed: Some("starting".to_owned()),
            waiting: 0,
            reason: String::new(),
        });
        Self { shown, now }
    }

    pub(super) fn opened(&self) {
        self.change(|now| now.closed = None);
    }

    pub(super) fn closed(&self, reason: String) {
        self.change(|now| now.closed = Some(reason));
    }

    /// Notes that a command waits, for this reason, as long as the result exists.
    pub(super) fn waits(&'a self, reason: String) -> WaitingCommand<'a> {
        self.change(|now| {
            now.waiting += 1;
            now.reason = reason;
        });
        WaitingCommand(self)
    }

    fn change(&self, change: impl FnOnce(&mut Now)) {
        let mut now = self.now();
        change(&mut now);
        let state = now.state();
        self.shown.send_if_modified(|shown| {
            let differs = *shown != state;
            if let (Ok(()), Err(reason)) = (&*shown, &state) {
                tracing::warn!(reason, "commands of the queue wait");
            }
            *shown = state;
            differs
        });
    }

    fn now(&self) -> MutexGuard<'_, Now> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Now {
    fn state(&self) -> Result<(), String> {
        match (&self.closed, self.waiting) {
            (Some(reason), _) => Err(reason.clone()),
            (None, 0) => Ok(()),
            (None, waiting) => Err(format!("{waiting} waiting: {}", self.reason)),
        }
    }
}

impl Drop for WaitingCommand<'_> {
    fn drop(&mut self) {
        self.0.change(|now| now.waiting -= 1);
    }
}

#[cfg(test)]
mod tests {
    use super::QueueHealth;
    use tokio::sync::watch;

    #[test]
    fn it_says_why_commands_wait_and_for_how_many() {
        let shown = watch::Sender::new(Ok(()));
        let health = QueueHealth::new(&shown);
        health.opened();
        assert_eq!(*shown.borrow(), Ok(()));
        let first = health.waits("the store is away".to_owned());
        let second = health.waits("no ids".to_owned());
        assert_eq!(*shown.borrow(), Err("2 waiting: no ids".to_owned()));
        drop(first);
        health.closed("the broker is away".to_owned());
        assert_eq!(*shown.borrow(), Err("the broker is away".to_owned()));
        health.opened();
        assert_eq!(*shown.borrow(), Err("1 waiting: no ids".to_owned()));
        drop(second);
        assert_eq!(*shown.borrow(), Ok(()));
    }
}
