//! The only module that reads the time. The uniqueness of ids does not depend on it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The time from the Unix epoch to the epoch of ids, 2015-01-01T00:00:00Z.
pub(crate) const EPOCH: Duration = Duration::from_hours(394_464);

/// This machine's idea of the time, which may step, drift and stand still.
pub trait Clock: Send + Sync {
    /// Milliseconds since 2015-01-01T00:00:00Z; 0 before that.
    fn now_ms(&self) -> u64;
}

/// The clock of the operating system.
#[derive(Debug, Clone, Copy)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now_ms(&self) -> u64 {
        #[expect(clippy::disallowed_methods, reason = "this is the clock")]
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        u64::try_from(now.saturating_sub(EPOCH).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_later_than_2025() {
        let ten_years = 3_652 * 24 * 60 * 60 * 1_000;
        assert!(SystemClock.now_ms() > ten_years);
    }
}
