//! 64-bit ids, numeric, sortable by time, unique across machines.
//!
//! Invariant: an id is issued only in a millisecond of a window that its worker number was granted in the log, and no
//! two windows of one number overlap; so no id is issued twice, whatever the clocks do.

mod api;
pub mod clock;
pub mod config;
mod domain;
mod ids;
mod lease;
mod request;
mod rpc;
pub mod startup;
mod stored_event;
