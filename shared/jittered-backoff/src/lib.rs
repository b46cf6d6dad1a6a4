//! Pauses between retries. Each pause doubles up to a limit and has jitter, so that clients which lost the same server do
//! not all return at once.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// The pauses of one retry loop.
#[derive(Debug)]
pub struct Backoff {
    step: Duration,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { step: FIRST }
    }
}

impl Backoff {
    /// The next pause: a random time between half of the current step and the whole step. The step then doubles; it begins
    /// at 20 ms and ends at 2 s.
    pub fn step(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(LONGEST);
        step.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Sleeps for one [`step`](Self::step).
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    /// Begins again with the shortest step, after an attempt that succeeded.
    pub fn reset(&mut self) {
        self.step = FIRST;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::Instant;

    async fn paused(backoff: &mut Backoff) -> Duration {
        let before = Instant::now();
        backoff.pause().await;
        before.elapsed()
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_double_up_to_the_limit_and_begin_again_after_a_success() {
        let mut backoff = Backoff::default();
        let tick = Duration::from_millis(1);
        for step in [20, 40, 80, 160, 320, 640, 1280, 2000, 2000].map(Duration::from_millis) {
            let waited = paused(&mut backoff).await;
            assert!(
                (step / 2..=step + tick).contains(&waited),
                "{waited:?} of {step:?}"
            );
        }
        backoff.reset();
        assert!(paused(&mut backoff).await <= FIRST + tick);
    }
}
