//! What callers may do, in the words of the protocol.

use tonic::{Request, Status};

use crate::access::{Caller, Denied, access_denied};

/// Who makes the request, as the gate found out.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, Status> {
    let caller = request.extensions().get().copied();
    caller.ok_or_else(|| access_denied("Access denied."))
}

impl From<Denied> for Status {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Role => access_denied(&denied.to_string()),
            Denied::Acl => Self::unimplemented(denied.to_string()),
        }
    }
}
