//! Connections that never carry a valid request: garbage, half a request, a port scan.
//!
//! The framework logs each of them as an ERROR, which `telemetry` drops. This module logs them at DEBUG, because anybody
//! can cause them.

use std::{any::Any, cell::Cell};

use actix_web::{dev::Extensions, dev::ServiceRequest};

/// The state of one connection, dropped when the connection ends.
#[derive(Default)]
struct Connection {
    had_request: Cell<bool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.had_request.get() {
            tracing::debug!("a connection ended without a valid request");
        }
    }
}

/// Starts to watch a new connection.
pub(crate) fn opened(_: &dyn Any, data: &mut Extensions) {
    data.insert(Connection::default());
}

/// Records that this connection has carried a valid request.
pub(crate) fn had_request(request: &ServiceRequest) {
    if let Some(connection) = request.conn_data::<Connection>() {
        connection.had_request.set(true);
    }
}
