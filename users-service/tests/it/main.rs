//! Tests of the service with a real event store in the same process, and with a real broker if needed.

#![expect(clippy::unwrap_used, reason = "a failed unwrap fails the test")]

mod access;
mod accounts;
mod architecture;
mod broker_report;
mod bus;
mod commands;
mod comparing;
mod conditions;
mod contracts;
mod counting;
mod crashing;
mod deferring;
mod documents;
mod erasing;
mod feeding;
mod forging;
mod former_names;
mod frozen_names;
mod holding;
mod ids;
mod input;
mod listing;
mod operating;
mod parking;
mod postgres;
mod privacy;
mod projecting;
mod publishing;
mod queueing;
mod rebuilding;
mod repeating;
mod searching;
mod snapshots;
mod starting;
mod support;
mod sweeping;
mod topology;
mod two_writers;
mod versions;
