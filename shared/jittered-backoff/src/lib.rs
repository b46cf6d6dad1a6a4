//! Waits between attempts: doubled from one to the next up to a limit, with jitter, so that clients which lost the same
//! server do not return in step.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(20);
const LONGEST: Duration = Duration::from_secs(2);

/// The waits of one retry loop.
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
    /// How long to wait now: between half and the whole of the current step, which is then doubled, 20 ms at first and
    /// 2 s at most.
    pub fn step(&mut self) -> Duration {
        let step = self.step;
        self.step = (step * 2).min(LONGEST);
        step.mul_f64(rand::random_range(0.5..1.0))
    }

    /// Waits for one [`step`](Self::step).
    pub async fn pause(&mut self) {
        tokio::time::sleep(self.step()).await;
    }

    /// Begins again with the shortest step: the last attempt succeeded.
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
    async fn waits_double_up_to_the_limit_and_begin_again_after_a_success() {
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
