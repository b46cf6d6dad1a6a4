//! The operator's command that builds a read model anew. The projectors do the work; this asks for it and shows how far it is.

use super::parts::{directory, registry};
use crate::clock::Clock;
use crate::config::{Config, ReadModelName};
use crate::read_model::{
    Generation, GenerationRecord, GenerationState, Projection, Registry, Statistics,
};
use event_streams::EventStreams;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// The pause between two lines.
const SHOW_EVERY: Duration = Duration::from_secs(1);

/// Begins another generation of a read model, unless one is being built, and shows how far it is until readers use it. It may be
/// interrupted; the building goes on.
///
/// # Errors
/// If the configuration is wrong, or a database fails.
pub async fn rebuild(
    read_model: ReadModelName,
    partitions: Option<u32>,
    config: &Config,
) -> anyhow::Result<()> {
    let projection: Arc<dyn Projection> = match read_model {
        ReadModelName::Directory => Arc::new(directory(config)?),
        ReadModelName::Statistics => Arc::new(Statistics),
    };
    let registry = registry(config)?;
    let all = registry.generations(projection.name()).await?;
    let partitions = match (partitions, all.last()) {
        (Some(partitions), _) => partitions,
        (None, Some(last)) => last.partitions,
        (None, None) => anyhow::bail!(
            "there is no generation yet; the first one is built when a projector starts"
        ),
    };
    let now = Clock::of_machine().now();
    let building = registry.begin(projection.as_ref(), partitions, now).await?;
    let store = EventStreams::connect(&config.servers.eventstore_url)?;
    watch(&registry, projection.as_ref(), building, &store).await
}

#[expect(clippy::print_stdout, reason = "the command prints its progress")]
async fn watch(
    registry: &Registry,
    projection: &dyn Projection,
    building: GenerationRecord,
    store: &EventStreams,
) -> anyhow::Result<()> {
    let number = building.number;
    println!(
        "generation {number} of {} is being built",
        projection.name()
    );
    let which = (number, building.partitions);
    let generation = Generation::lazy(registry.databases(), projection, which)?;
    let mut pace = RebuildPace::default();
    loop {
        let all = registry.generations(projection.name()).await?;
        let state = all.iter().find(|one| one.number == number);
        match state.map(|one| one.state) {
            Some(GenerationState::Building) => {}
            Some(GenerationState::Current) => {
                println!("readers use generation {number}");
                return Ok(());
            }
            Some(GenerationState::Retired) | None => {
                anyhow::bail!("generation {number} is not used any more")
            }
        }
        let progress = generation.progress().await.ok().flatten();
        let end = store.log_end().await?.map_or(0, |end| end.commit);
        println!("{}", pace.line(progress, end));
        tokio::time::sleep(SHOW_EVERY).await;
    }
}

/// How fast it goes, since the first look.
#[derive(Default)]
struct RebuildPace {
    began: Option<(Instant, u64, u64)>,
}

impl RebuildPace {
    /// The line for so many events up to this position of a log that ends there.
    fn line(&mut self, progress: Option<(u64, u64)>, end: u64) -> String {
        let Some((position, events)) = progress else {
            return "no projector has begun yet".to_owned();
        };
        let (began, from, before) = *self.began.get_or_insert((Instant::now(), position, events));
        let millis = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
        let rate = (events - before.min(events)) * 1_000 / millis.max(1);
        let moved = position.saturating_sub(from);
        let left = end.saturating_sub(position);
        let seconds = u128::from(left) * u128::from(millis) / u128::from(moved.max(1)) / 1_000;
        if moved == 0 {
            return format!("{events} events");
        }
        format!("{events} events, {rate}/s, {seconds} s left")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_line_has_the_events_the_rate_and_the_time_that_is_left() {
        let mut pace = RebuildPace::default();
        assert_eq!(pace.line(None, 100), "no projector has begun yet");
        assert_eq!(pace.line(Some((10, 1_000)), 100), "1000 events");
        tokio::time::advance(Duration::from_secs(2)).await;
        let line = pace.line(Some((40, 4_000)), 100);
        assert_eq!(line, "4000 events, 1500/s, 4 s left");
        let line = pace.line(Some((100, 9_000)), 100);
        assert_eq!(line, "9000 events, 4000/s, 0 s left");
    }
}
