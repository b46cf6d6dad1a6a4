//! Connections on which nothing came that could be understood: garbage, half a request, a port scan.
//!
//! The framework logs each as an ERROR of its own, which the logs leave out. This module says it at DEBUG, because every
//! stranger can cause it.

use std::{any::Any, cell::Cell};

use actix_web::{dev::Extensions, dev::ServiceRequest};

/// What is known of one connection; it ends with it.
#[derive(Default)]
struct Connection {
    understood: Cell<bool>,
}

impl Drop for Connection {
    fn drop(&mut self) {
        if !self.understood.get() {
            tracing::debug!("a connection ended without a request that could be understood");
        }
    }
}

/// Notes a new connection.
pub(crate) fn opened(_: &dyn Any, data: &mut Extensions) {
    data.insert(Connection::default());
}

/// Notes that the connection of this request brought one.
pub(crate) fn understood(request: &ServiceRequest) {
    if let Some(connection) = request.conn_data::<Connection>() {
        connection.understood.set(true);
    }
}
