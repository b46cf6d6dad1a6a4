//! The service against a real event store in the same process, and a real broker where one is needed.

#![expect(
    clippy::unwrap_used,
    reason = "a test stops where something is not as it says"
)]

mod architecture;
mod bus;
mod commands;
mod comparing;
mod crashing;
mod erasing;
mod forging;
mod former_names;
mod ids;
mod listing;
mod parking;
mod privacy;
mod projecting;
mod publishing;
mod starting;
mod support;
mod topology;
