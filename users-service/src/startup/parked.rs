//! The operator's commands for parked streams.

use super::printable::printable;
use crate::config::{ParkedCommand, ServersConfig};
use crate::integration::publisher::operator::{self, Waiting};
use crate::operations::Decision;
use event_streams::EventStreams;

/// Runs a command and prints its result.
///
/// # Errors
/// If the configuration is wrong, the store is unavailable, or the stream is not parked.
pub async fn parked(command: ParkedCommand) -> anyhow::Result<()> {
    match command {
        ParkedCommand::List { servers } => print(&operator::list(&store(&servers)?).await?),
        ParkedCommand::Retry { servers } => operator::retry(&store(&servers)?).await?,
        ParkedCommand::Skip {
            stream,
            revision,
            decision,
            servers,
        } => {
            let decision = Decision::from(decision);
            let skipped = operator::skip(&store(&servers)?, &stream, revision, &decision).await?;
            print(&[skipped]);
        }
    }
    Ok(())
}

fn store(servers: &ServersConfig) -> anyhow::Result<EventStreams> {
    Ok(EventStreams::connect(&servers.eventstore_url)?)
}

#[expect(clippy::print_stdout, reason = "the command prints its result")]
fn print(list: &[Waiting]) {
    for Waiting { parked, event_type } in list {
        let event_type = event_type.as_deref().map_or("(deleted)".into(), printable);
        println!(
            "{} {} {event_type}",
            printable(&parked.stream),
            parked.revision
        );
    }
}
