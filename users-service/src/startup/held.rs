//! The operator's commands for held users. They work on the read model's file, whether or not a projector runs beside them.

use super::hosted_read_models::HostedReadModels;
use super::parts::Parts;
use super::printable::printable;
use crate::config::{Config, HeldCommand, ReadModelName};
use crate::operations::Decision;
use crate::projection::current_repair::CurrentRepair;
use crate::projection::holds;
use crate::projection::view::HeldUser;

/// Runs a command and prints its result: the users that are held now.
///
/// # Errors
/// If the configuration is wrong, a server is unavailable, or the user is not held.
pub async fn held(command: HeldCommand) -> anyhow::Result<()> {
    match command {
        HeldCommand::List { read_model, config } => {
            let repair = current_repair(read_model, &config).await?;
            let held = holds::list(&repair.generation()?).await?;
            print(&held.users, held.total);
        }
        HeldCommand::Replay {
            user,
            read_model,
            config,
        } => {
            let held =
                holds::replay(&current_repair(read_model, &config).await?.repair()?, user).await?;
            print(held.as_slice(), 0);
        }
        HeldCommand::Drop {
            user,
            read_model,
            revision,
            decision,
            config,
        } => {
            let repair = current_repair(read_model, &config).await?.repair()?;
            let decision = Decision::from(decision);
            let dropped = holds::drop_event(&repair, user, revision, &decision).await?;
            print(dropped.still_held.as_slice(), 0);
        }
    }
    Ok(())
}

async fn current_repair(
    read_model: ReadModelName,
    config: &Config,
) -> anyhow::Result<CurrentRepair> {
    let parts = Parts::build(config).await?;
    let read_models = HostedReadModels::new(config)?;
    let read_model = match read_model {
        ReadModelName::Directory => read_models.directory,
        ReadModelName::Statistics => read_models.statistics,
    };
    read_model.look().await?;
    Ok(read_model.repair(&parts))
}

#[expect(clippy::print_stdout, reason = "the command prints its result")]
fn print(held: &[HeldUser], total: u64) {
    for held in held {
        let reason = printable(&held.reason);
        println!("{} {} {reason}", held.user, held.revision);
    }
    let more = total.saturating_sub(held.len() as u64);
    if more > 0 {
        println!("and {more} more");
    }
}
