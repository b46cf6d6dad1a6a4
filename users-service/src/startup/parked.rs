//! The commands by which an operator looks after parked streams.

use crate::config::{ParkedCommand, ServersConfig};
use crate::integration::publisher::operator::{self, Decision, Waiting};
use event_streams::EventStreams;

/// Carries out a command, and prints what it found.
///
/// # Errors
/// When the configuration is wrong, the store is away, or the stream is not parked.
pub async fn parked(command: &ParkedCommand) -> anyhow::Result<()> {
    match command {
        ParkedCommand::List { servers } => print(&operator::list(&store(servers)?).await?),
        ParkedCommand::Retry { servers } => operator::retry(&store(servers)?).await?,
        ParkedCommand::Skip {
            stream,
            reason,
            by,
            servers,
        } => {
            let decision = Decision {
                by: by.clone(),
                reason: reason.clone(),
            };
            let skipped = operator::skip(&store(servers)?, stream, &decision).await?;
            print(&[skipped]);
        }
    }
    Ok(())
}

fn store(servers: &ServersConfig) -> anyhow::Result<EventStreams> {
    Ok(EventStreams::connect(&servers.eventstore_url)?)
}

#[expect(clippy::print_stdout, reason = "this is what the command is for")]
fn print(list: &[Waiting]) {
    for Waiting { parked, event_type } in list {
        let event_type = event_type.as_deref().unwrap_or("(gone)");
        println!("{} {} {event_type}", parked.stream, parked.revision);
    }
}
