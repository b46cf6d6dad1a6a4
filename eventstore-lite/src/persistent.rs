//! Persistent subscriptions: groups of clients that share the events of a stream or of the log, and settle each
//! event.
//!
//! `group` decides, as a pure state machine. `actor` runs one group in its own task. `registry` knows all groups and
//! stores their settings. All state is in the log (`stored_events`), so it is as durable as any event. Delivery is at
//! least once: after a restart, events that were settled since the last checkpoint are delivered again.

mod actor;
mod group;
mod handle;
mod info;
mod journal;
mod reader;
mod registry;
mod replays;
mod settings;
mod stored_events;

pub(crate) use group::{Client, Message, NackAction, Peer};
pub(crate) use handle::{GroupConnection, GroupEnded, Handle};
pub(crate) use info::Info;
pub(crate) use registry::{GroupError, PersistentSubscriptions, StartPosition};
pub(crate) use settings::{FilterSettings, GroupKey, Settings, Source, StartFrom, Strategy};
