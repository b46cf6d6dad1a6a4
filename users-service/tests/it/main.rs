//! The service against a real event store in the same process, and a real broker where one is needed.

mod architecture;
mod commands;
mod erasing;
mod ids;
mod privacy;
mod starting;
mod support;
