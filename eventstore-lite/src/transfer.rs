//! Transfers events between servers as JSON lines, through the normal client protocol. Both ends may be this server
//! or the real one.

mod address;
mod exporter;
mod importer;
mod line;
mod remote;

pub(crate) use exporter::export;
pub(crate) use importer::import;
pub(crate) use remote::Remote;

/// How much was transferred.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TransferCounts {
    pub(crate) events: u64,
    pub(crate) streams: usize,
}
