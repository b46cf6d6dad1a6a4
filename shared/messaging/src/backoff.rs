//! Waits between attempts: doubled from one to the next up to a limit, with jitter, so that clients which lost the
//! same broker do not return in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_secs(3);

/// The waits of one retry loop.
#[derive(Debug)]
pub struct Backoff {
    next: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { next: FIRST }
    }
}

impl Backoff {
    /// How long to wait now: between half and the whole of the current step, which is doubled up to three seconds.
    pub fn step(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(LONGEST);
        step.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Waits for one [`step`](Self::step).
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    /// Begins again with the shortest step: the last attempt succeeded.
    pub fn reset(&mut self) {
        self.next = FIRST;
    }
}
