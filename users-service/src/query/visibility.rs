//! The wait until a read model has what a command did.

use std::time::Duration;
use tokio::time::{Instant, sleep};

/// How long a query waits.
pub(super) const PATIENCE: Duration = Duration::from_secs(5);
/// The pause between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Waits until `has` says so, but not for longer than `patience`. Returns whether it did.
///
/// # Errors
/// If a look fails.
pub(super) async fn until_visible<E>(
    patience: Duration,
    has: impl AsyncFn() -> Result<bool, E>,
) -> Result<bool, E> {
    let deadline = Instant::now() + patience;
    loop {
        if has().await? {
            return Ok(true);
        }
        if Instant::now() >= deadline {
            return Ok(false);
        }
        sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::convert::Infallible;

    #[tokio::test(start_paused = true)]
    async fn a_query_waits_until_it_sees_the_command_and_for_five_seconds_at_most() {
        let began = Instant::now();
        let never = until_visible(PATIENCE, async || Ok::<_, Infallible>(false)).await;
        assert_eq!(never, Ok(false));
        assert_eq!(began.elapsed(), PATIENCE);
        let looks = Cell::new(0);
        let third = async || {
            looks.set(looks.get() + 1);
            Ok::<_, Infallible>(looks.get() == 3)
        };
        assert_eq!(until_visible(PATIENCE, third).await, Ok(true));
        assert_eq!(began.elapsed(), PATIENCE + LOOK_EVERY * 2);
    }

    #[tokio::test]
    async fn a_look_that_fails_ends_the_wait() {
        let failed = until_visible(PATIENCE, async || Err("broken")).await;
        assert_eq!(failed, Err("broken"));
    }
}
