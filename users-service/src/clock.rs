//! The wall clock. It decides only how long something is remembered.

use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

/// Reads the time. A test can set it.
#[derive(Clone)]
pub struct Clock(Arc<dyn Fn() -> u64 + Send + Sync>);

impl Clock {
    /// The clock of this machine.
    #[must_use]
    pub fn of_machine() -> Self {
        Self::new(machine_time)
    }

    /// A clock that shows what `read` returns: milliseconds since the Unix epoch.
    #[must_use]
    pub fn new(read: impl Fn() -> u64 + Send + Sync + 'static) -> Self {
        Self(Arc::new(read))
    }

    /// The time in milliseconds since the Unix epoch.
    #[must_use]
    pub fn now(&self) -> u64 {
        (self.0)()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the one place that reads the clock"
)]
fn machine_time() -> u64 {
    let now = SystemTime::now();
    let since_epoch = now.duration_since(SystemTime::UNIX_EPOCH);
    let millis = since_epoch.map(|time| time.as_millis());
    millis.map_or(0, |millis| u64::try_from(millis).unwrap_or(u64::MAX))
}
