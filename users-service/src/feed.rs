//! The feed of events (`GET /events`): which users changed, as server-sent events. It has ids, types and revisions; names are read
//! with `GET /{id}`.
//!
//! Invariants:
//! - The feed has what the publisher has sent or parked, in the order of the log, so every process gives the same events with
//!   the same ids.
//! - A process reads the log once for all listeners that are up to date. A listener that is behind reads pages of its own, and
//!   few do so at once.
//! - A listener that does not keep up is ended, and goes on later after its last id.

pub mod api;
mod feed_event;
mod feed_position;
mod listener;
mod source;

pub use feed_position::FeedPosition;
pub use listener::{Listener, Selection, Start};
pub use source::{Feed, FeedError};
