//! The routes of operators that a role has.

use super::Role;
use super::parts::Parts;
use crate::config::Config;
use crate::operator_routes::{HeldUsers, Operators, ParkedStreams};
use crate::projection::current_repair::CurrentRepair;
use actix_web::web::ServiceConfig;
use std::net::SocketAddr;

/// Each part is `None` if the role does not have these routes.
#[derive(Clone, Default)]
pub(super) struct OperatorAccess {
    parked: Option<ParkedStreams>,
    held: Option<HeldUsers>,
}

impl OperatorAccess {
    /// The routes of this role at this address. A process that would let everybody in from other machines, or could not name
    /// its callers, has none.
    pub(super) fn of(
        (role, address): (Role, SocketAddr),
        parts: &Parts,
        config: &Config,
        repairs: Option<[CurrentRepair; 2]>,
    ) -> anyhow::Result<Self> {
        if let Err(reason) = may_have_routes(config, address) {
            let text = "the routes of operators are not served";
            tracing::warn!(reason = format!("{reason:#}"), "{text}");
            return Ok(Self::default());
        }
        let secret = config.data.username_secret_file.is_some();
        let secret = secret.then(|| config.data.username_secret()).transpose()?;
        let operators = Operators::new(secret);
        let parked = role.commands() || role.publishes();
        let parked = parked.then(|| ParkedStreams::new(parts.store.clone(), operators.clone()));
        let held = repairs.map(|repairs| HeldUsers::new(repairs.into(), operators));
        Ok(Self { parked, held })
    }

    pub(super) fn add_to(&self, config: &mut ServiceConfig) {
        if let Some(parked) = &self.parked {
            parked.add_to(config);
        }
        if let Some(held) = &self.held {
            held.add_to(config);
        }
    }
}

fn may_have_routes(config: &Config, address: SocketAddr) -> anyhow::Result<()> {
    config.access.check(address)?;
    let anonymous = config.data.username_secret_file.is_none();
    anyhow::ensure!(
        !config.access.authenticates() || !anonymous,
        "USERNAME_SECRET_FILE is needed to make the pseudonyms of authenticated callers"
    );
    Ok(())
}
