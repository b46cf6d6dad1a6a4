//! Replays conversations that were recorded from the real server, and requires the same messages, codes and trailers.
//! `golden-data/README.md` describes the recordings.

mod compare;
mod conversation;
mod names;
mod plant;
mod scenario;

use std::path::Path;

use eventstore_lite::{Config, Server};
use tonic::transport::Endpoint;

use self::compare::compare;
use self::plant::PLANTS;
use self::scenario::{Answer, Scenario, Step};

#[tokio::test]
async fn appends_are_answered_as_recorded() {
    replay("appends").await;
}

#[tokio::test]
async fn deletes_are_answered_as_recorded() {
    replay("deletes").await;
}

#[tokio::test]
async fn reads_are_answered_as_recorded() {
    replay("reads").await;
}

#[tokio::test]
async fn batches_are_answered_as_recorded() {
    replay("batches").await;
}

#[tokio::test]
async fn subscriptions_are_answered_as_recorded() {
    replay("subscriptions").await;
}

#[tokio::test]
async fn persistent_subscriptions_are_answered_as_recorded() {
    replay("persistent-subscriptions").await;
}

#[tokio::test]
async fn system_streams_are_answered_as_recorded() {
    replay("projections").await;
}

#[tokio::test]
async fn the_server_presents_itself_as_recorded() {
    replay("server").await;
}

#[tokio::test]
async fn odd_orders_and_limits_are_answered_as_recorded() {
    replay("second").await;
}

/// Replays one file on its own server. To detect a blind comparer, also checks that every planted difference is
/// reported.
async fn replay(file: &str) {
    let mut scenarios = recorded(file);
    let system_projections = file == "projections";
    if system_projections {
        // The real server makes links some time after the events. This server makes them with the events.
        for scenario in &mut scenarios {
            scenario
                .steps
                .retain(|step| !matches!(step, Step::Pause { .. }));
        }
    }
    let answers = answers_to(&scenarios, system_projections).await;
    let replayed: Vec<_> = scenarios.iter().zip(&answers).collect();
    let differences: Vec<_> = replayed.iter().flat_map(|(s, a)| compare(s, a)).collect();
    let count = differences.len();
    assert!(
        differences.is_empty(),
        "{file}: {count} differences\n{}",
        differences.join("\n")
    );
    let planted: usize = replayed.iter().map(|(s, a)| report_plants(s, a)).sum();
    assert!(planted > 0, "{file}: no difference could be planted");
}

async fn answers_to(scenarios: &[Scenario], system_projections: bool) -> Vec<Vec<Option<Answer>>> {
    let db = tempfile::tempdir().unwrap();
    let mut config = Config::new(db.path());
    config.system_projections = system_projections;
    let server = Server::start(config).await.unwrap();
    let endpoint = Endpoint::try_from(format!("http://{}", server.address())).unwrap();
    let channel = endpoint.connect().await.unwrap();
    let mut answers = Vec::new();
    for scenario in scenarios {
        answers.push(conversation::run(&channel, scenario).await);
    }
    server.shutdown().await;
    answers
}

fn report_plants(scenario: &Scenario, answers: &[Option<Answer>]) -> usize {
    let mut planted = 0;
    for (what, plant) in PLANTS {
        let Some(altered) = plant(scenario) else {
            continue;
        };
        planted += 1;
        let name = &scenario.name;
        let reported = !compare(&altered, answers).is_empty();
        assert!(reported, "{name}: {what} was planted but not reported");
    }
    planted
}

fn recorded(file: &str) -> Vec<Scenario> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden-data");
    let text = std::fs::read_to_string(folder.join(file).with_extension("json")).unwrap();
    serde_json::from_str(&text).unwrap()
}
