//! 64-bit ids, numeric, sortable by time, unique across machines.
//!
//! Invariant: no id is issued twice, whatever the clocks do. Every id lies in a window that the log grants to its worker
//! number, and no two windows of one number overlap.

mod api;
pub mod clock;
pub mod config;
mod domain;
mod ids;
mod lease_keeper;
mod media_type;
mod request;
pub mod restored;
mod rpc;
pub mod startup;
mod stored_event;
mod window_record;
mod worker_numbers;
