//! Who a caller is, and what callers may do.
//!
//! Invariant: a request that has not passed the [`Gate`] carries no [`Caller`], and is refused where a caller is
//! required.

mod cross_site;
mod gate;
mod verifier;

use serde_json::{Map, Value};

use crate::event::{NewEvent, ResolvedEvent};
use crate::storage::{Change, Write};
use crate::stream_name::StreamName;
use crate::system_streams::is_index;
use crate::users::Role;

pub(crate) use gate::{Gate, GateState, access_denied, guard};

/// The caller of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Caller {
    /// Any caller of a server without users. Everything is allowed.
    Anyone,
    /// A user with this role.
    User(Role),
}

/// Why a caller may not do something.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    #[error("Access denied: this needs a user with the role admin.")]
    Role,
    #[error(
        "This server does not support access control lists (`$acl`) and refuses them: give users roles instead \
         (--users-file)."
    )]
    Acl,
}

impl Caller {
    /// Only admins may read `$all` (`None`) and streams whose names begin with `$`. All users may read the indexes
    /// among those streams.
    pub(crate) fn read(self, stream: Option<&StreamName>) -> Result<(), Denied> {
        let for_all = stream.is_some_and(|name| is_index(name.as_str()) || !name.is_system());
        self.allowed(for_all)
    }

    /// Whether the target of a link is hidden from the caller. Anybody may write a link to anything, so a link
    /// resolves only to events that the caller may read.
    pub(crate) fn hides_target(self, resolved: &ResolvedEvent) -> bool {
        let target = resolved.link.as_ref().and(resolved.event.as_ref());
        target.is_some_and(|target| self.read(Some(&target.stream)).is_err())
    }

    /// Only admins may write and delete streams whose names begin with `$`.
    pub(crate) fn write(self, write: &Write) -> Result<(), Denied> {
        self.allowed(!write.stream.is_system())?;
        match (&write.change, self) {
            (Change::Append(events), Self::User(_))
                if write.stream.is_metastream() && events.iter().any(has_acl) =>
            {
                Err(Denied::Acl)
            }
            _ => Ok(()),
        }
    }

    fn allowed(self, for_all: bool) -> Result<(), Denied> {
        if for_all || matches!(self, Self::Anyone | Self::User(Role::Admin)) {
            Ok(())
        } else {
            Err(Denied::Role)
        }
    }

    /// Whether the caller may call a path, of a gRPC method or a page.
    fn may_call(self, path: &str) -> bool {
        let is_operator = match self {
            Self::Anyone => true,
            Self::User(role) => role >= Role::Operator,
        };
        is_operator || !is_for_operators(path)
    }
}

/// Whether metadata sets an access control list, which its author would expect to be applied.
fn has_acl(metadata: &NewEvent) -> bool {
    let object = serde_json::from_slice::<Map<String, Value>>(&metadata.data);
    metadata.is_json && object.is_ok_and(|object| object.contains_key("$acl"))
}

const PERSISTENT_SUBSCRIPTIONS: &str =
    "/event_store.client.persistent_subscriptions.PersistentSubscriptions/";

fn is_for_operators(path: &str) -> bool {
    path.starts_with("/event_store.client.operations.Operations/")
        || path
            .strip_prefix(PERSISTENT_SUBSCRIPTIONS)
            .is_some_and(|method| method != "Read")
        || path.starts_with("/web/api/groups")
}

/// Whether a path is answered without credentials, so that clients can find the server and orchestrators can monitor
/// it.
fn is_for_anybody(path: &str) -> bool {
    matches!(path, "/health/live" | "/info" | "/gossip")
        || path.starts_with("/event_store.client.server_features.ServerFeatures/")
        || path.starts_with("/event_store.client.gossip.Gossip/")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(stream: &str, data: &'static str) -> Write {
        let event = NewEvent {
            id: uuid::Uuid::new_v4(),
            event_type: "x".to_owned(),
            is_json: true,
            data: data.into(),
            metadata: "".into(),
        };
        Write {
            stream: StreamName::stored(stream),
            expected: crate::append_rules::Expected::Any,
            change: Change::Append(vec![event]),
            deadline: None,
        }
    }

    fn may(caller: Caller, name: &str) -> (bool, bool) {
        let write = write(name, "{}");
        (
            caller.read(Some(&write.stream)).is_ok(),
            caller.write(&write).is_ok(),
        )
    }

    const USER: Caller = Caller::User(Role::User);
    const OPERATOR: Caller = Caller::User(Role::Operator);
    const ADMIN: Caller = Caller::User(Role::Admin);

    #[test]
    fn system_streams_are_for_admins_and_indexes_for_all_readers() {
        for name in ["orders-1", "$$orders-1", "orders$"] {
            assert_eq!(may(USER, name), (true, true), "{name}");
        }
        for name in ["$settings", "$$$settings", "$all", "$$$ce-orders"] {
            assert_eq!(may(OPERATOR, name), (false, false), "{name}");
            assert_eq!(may(ADMIN, name), (true, true), "{name}");
            assert_eq!(may(Caller::Anyone, name), (true, true), "{name}");
        }
        for name in ["$ce-orders", "$streams", "$et-placed"] {
            assert_eq!(may(USER, name), (true, false), "{name}");
        }
        assert_eq!(USER.read(None), Err(Denied::Role));
        assert_eq!(ADMIN.read(None), Ok(()));
    }

    #[test]
    fn an_access_control_list_is_refused_where_there_are_users() {
        let list = r#"{"$maxCount":3,"$acl":{"$r":"$admins"}}"#;
        assert_eq!(ADMIN.write(&write("$$orders", list)), Err(Denied::Acl));
        assert_eq!(Caller::Anyone.write(&write("$$orders", list)), Ok(()));
        assert_eq!(ADMIN.write(&write("orders", list)), Ok(()));
    }

    #[test]
    fn operations_are_for_operators_and_admins() {
        let read = format!("{PERSISTENT_SUBSCRIPTIONS}Read");
        let create = format!("{PERSISTENT_SUBSCRIPTIONS}Create");
        let shutdown = "/event_store.client.operations.Operations/Shutdown";
        assert!(USER.may_call(&read));
        for path in [
            &create,
            shutdown,
            "/web/api/groups",
            "/web/api/groups/replay",
        ] {
            assert!(!USER.may_call(path));
            assert!(OPERATOR.may_call(path) && ADMIN.may_call(path));
            assert!(Caller::Anyone.may_call(path));
        }
    }
}
