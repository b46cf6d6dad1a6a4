//! Waits between attempts: doubled from one to the next up to a limit, with jitter, so that clients which lost the same
//! server do not return in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self { next: FIRST }
    }

    /// Waits between half and the whole of the current step, and doubles the step.
    pub(crate) async fn pause(&mut self) {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        tokio::time::sleep(step.mul_f64(rand::random_range(0.5..1.0))).await;
    }

    /// Begins again with the shortest step: the last attempt succeeded.
    pub(crate) fn reset(&mut self) {
        self.next = FIRST;
    }
}
