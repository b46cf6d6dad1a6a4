//! The state of a group, for the page and for `GetInfo` and `List`.

use tokio::time::Duration;

use super::group::Client;
use super::settings::{GroupKey, Settings};

#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) key: GroupKey,
    pub(crate) settings: Settings,
    /// Whether it has reached the end of its source.
    pub(crate) is_live: bool,
    /// The place of the last event that it read.
    pub(crate) last_known: Option<u64>,
    pub(crate) checkpoint: Option<u64>,
    /// How many events wait for their first delivery, and how many for a retry.
    pub(crate) waiting: usize,
    pub(crate) waiting_retries: usize,
    /// How many events were read while the group was live.
    pub(crate) live: u64,
    pub(crate) in_flight: usize,
    pub(crate) parked: u64,
    /// How many events were acknowledged, skipped or parked since the group started, and how long ago it started.
    pub(crate) settled: u64,
    pub(crate) age: Duration,
    pub(crate) clients: Vec<Client>,
}
