//! How a group stands, for people and for the answers of `GetInfo` and `List`.

use tokio::time::Duration;

use super::group::Client;
use super::settings::{GroupKey, Settings};

#[derive(Clone, Debug)]
pub(crate) struct Info {
    pub(crate) key: GroupKey,
    pub(crate) settings: Settings,
    /// Whether it has come to the end of what it reads.
    pub(crate) is_live: bool,
    /// The place of the last event that it read.
    pub(crate) last_known: Option<u64>,
    pub(crate) checkpoint: Option<u64>,
    /// How many events wait for the first time, and how many wait to come again.
    pub(crate) waiting: usize,
    pub(crate) waiting_retries: usize,
    /// How many events came while it was live.
    pub(crate) live: u64,
    pub(crate) in_flight: usize,
    pub(crate) parked: u64,
    /// How many events were acknowledged, skipped or parked since it started, that long ago.
    pub(crate) settled: u64,
    pub(crate) age: Duration,
    pub(crate) clients: Vec<Client>,
}
