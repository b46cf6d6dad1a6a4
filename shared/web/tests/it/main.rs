//! The crate as a client sees it: a real server on a free port.

mod bad_input;
mod lifecycle;
mod support;
