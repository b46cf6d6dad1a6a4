//! Requests and replies over a queue. A reply goes directly to the channel that sent the request.

mod client;
mod server;

pub use client::{RpcClient, RpcError};
pub use server::serve_rpc;
