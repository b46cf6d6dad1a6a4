//! The service as a client sees it, on an event store in the same process.

#![expect(clippy::unwrap_used, reason = "a test fails where a value is missing")]

mod after;
mod bad_input;
mod campaign;
mod clocks;
mod floors;
mod forms;
mod issuing;
mod outages;
mod processes;
mod restores;
mod rivals;
mod rpc;
mod seen;
mod store;
mod support;
