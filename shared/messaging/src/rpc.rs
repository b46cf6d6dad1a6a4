//! Request and reply over a queue: replies come directly to the channel that asked.

mod client;
mod server;

pub use client::{RpcClient, RpcError};
pub use server::serve_rpc;
