//! Tests of the server from outside: in the same process, and as an executable.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it says"
)]

mod calls;
mod cli;
mod disk_full;
mod durability;
mod fuzz;
mod golden;
mod groups;
mod hidden;
mod hostile;
mod kill;
mod links;
mod live;
mod monitoring;
mod official_clients;
mod restart;
mod scavenge;
mod schema;
mod security;
mod subscribers;
mod subscriptions;
mod support;
mod system_streams;
mod transfer;
mod writers;
