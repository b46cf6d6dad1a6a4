//! Permissions of callers and connections, as gRPC statuses.

use std::sync::Arc;

use tonic::{Request, Status};

use super::status;
use crate::access::{Caller, Denied, access_denied};
use crate::calls::{CallConnection, Calls, LongCall};

/// The caller of the request, as the gate determined it.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get().copied();
    caller.ok_or_else(|| access_denied("Access denied."))
}

/// The calls on the connection of the request.
pub(super) fn calls<T>(request: &Request<T>) -> Result<Arc<Calls>, Status> {
    let peer: Option<&CallConnection> = request.extensions().get();
    Ok(Arc::clone(&peer.ok_or_else(status::unavailable)?.calls))
}

/// Registers a subscription or session among these calls.
pub(super) fn long_call(calls: &Arc<Calls>) -> Result<LongCall, Status> {
    calls
        .begin_long_call()
        .ok_or_else(status::too_many_long_calls)
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Role => access_denied(&denied.to_string()),
            Denied::Acl => Self::unimplemented(denied.to_string()),
        }
    }
}
