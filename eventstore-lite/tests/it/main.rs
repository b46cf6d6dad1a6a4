//! The server from outside, in the same process.

mod golden;
