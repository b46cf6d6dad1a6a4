//! Moves events between servers as JSON lines, through the protocol that all clients speak: from and to this server
//! and the real one.

mod address;
mod export;
mod import;
mod line;
mod remote;

pub(crate) use export::export;
pub(crate) use import::import;
pub(crate) use remote::Remote;

/// How much was moved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    pub(crate) events: u64,
    pub(crate) streams: usize,
}
