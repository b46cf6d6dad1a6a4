//! At least eight clients at once send random commands over HTTP and through the queue, repeat them and send some twice, while
//! the service and the store are killed and restarted. At the end some order of the commands explains every answer, and the users are as that order says.
//!
//! `PROPERTY_KILLS` is the number of rounds, each of which kills a process with the API and the store; the default is 2.
//! `PROPERTY_SEED` repeats the commands of a run; what they meet differs from run to run.

mod checker;
mod client;
mod faults;
mod history;
mod model;
mod world;

use anyhow::{Context, Result, ensure};
use client::{Client, Transport};
use faults::{Coda, FAULTS};
use history::{Action, Sent};
use private_broker::PrivateBroker;
use std::collections::BTreeSet;
use std::sync::Arc;
use system_tests::system::Node;
use system_tests::{Part, System, Users};
use tokio::sync::watch;
use tokio::task::JoinSet;
use world::World;

const PARTS: [Part; 4] = [Part::Store, Part::Uuids, Part::Serve, Part::Api];
/// The two processes with the API. Both have the same users.
const APIS: [Part; 2] = [Part::Serve, Part::Api];
/// Clients at one time, and what each of them does in a round.
const CLIENTS: u64 = 8;
const ACTIONS: usize = 24;
/// How many worlds the clients of a round share.
const WORLDS: usize = 2;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// The system, its worlds, and what the clients know about both.
struct Run {
    system: System,
    seed: u64,
    clients: u64,
    down: watch::Sender<BTreeSet<Part>>,
    answered: watch::Sender<usize>,
    worlds: Vec<Arc<World>>,
}

impl Run {
    async fn begin(seed: u64) -> Result<Self> {
        let broker = Node::Shared(PrivateBroker::shared().await);
        Ok(Self {
            system: System::of(&PARTS, broker, "info").await?,
            seed,
            clients: 0,
            down: watch::Sender::default(),
            answered: watch::Sender::default(),
            worlds: Vec::new(),
        })
    }

    fn client(&mut self) -> Result<Client> {
        let mut transports = Vec::new();
        for part in APIS {
            let address = self.system.address(part).context("a part with the API")?;
            let users = Users::new(&format!("http://{address}"))?;
            transports.push(Transport::Http(users.clone()));
            transports.push(Transport::Queue(users));
        }
        self.clients += 1;
        let seed = self.seed.wrapping_add(self.clients);
        let (down, answered) = (self.down.subscribe(), self.answered.clone());
        Ok(Client::new(seed, transports, down, answered))
    }

    /// All clients act in new worlds, while one process with the API and the store are killed one after the other.
    async fn round(&mut self, number: usize) -> Result<()> {
        let worlds: Vec<_> = (0..WORLDS).map(|_| Arc::new(World::new())).collect();
        self.worlds.extend(worlds.iter().cloned());
        let before = *self.answered.borrow();
        let mut acting = JoinSet::new();
        for _ in 0..CLIENTS {
            let (client, worlds) = (self.client()?, worlds.clone());
            acting.spawn(async move { client.act(&worlds, ACTIONS).await });
        }
        let share = usize::try_from(CLIENTS)? * ACTIONS / 4;
        let mut victims = [APIS[number % APIS.len()], Part::Store];
        victims.rotate_left(number / APIS.len() % 2);
        for (index, victim) in (1..).zip(victims) {
            let mut answered = self.answered.subscribe();
            answered
                .wait_for(|count| count - before >= index * share)
                .await?;
            self.down.send_modify(|down| {
                down.insert(victim);
            });
            self.system.kill(victim)?;
            self.system.start_part(victim).await?;
            self.system.serves(victim).await?;
            self.down.send_modify(|down| {
                down.remove(&victim);
            });
        }
        while let Some(acted) = acting.join_next().await {
            acted??;
        }
        Ok(())
    }

    /// Reads every user, and looks whether each name is held. Then plays the coda.
    async fn end(&mut self, world: &World) -> Result<Coda> {
        let mut client = self.client()?;
        let users = world.users().clone();
        for user in users {
            client.ask(world, Action::Get { id: user.id }).await?;
        }
        for name in world.names() {
            let names = model::Names {
                username: name.as_str().into(),
                given: "Last".into(),
                family: "Family".into(),
            };
            client.ask(world, Action::Create(names)).await?;
        }
        Coda::play(&mut client, world).await
    }
}

fn check(history: &[Sent]) -> Result<()> {
    let operations = history::operations(history)?;
    if let Err(unexplained) = checker::explain(&operations) {
        anyhow::bail!("{operations:#?}\n{unexplained}");
    }
    Ok(())
}

/// How many requests were answered, how many of them by the status of a command in the queue or as repetitions under a key, and
/// how many were lost.
fn figures(history: &[Sent]) -> [usize; 4] {
    let answers: Vec<_> = history
        .iter()
        .filter_map(|sent| sent.answer.as_ref())
        .collect();
    let by_status = answers.iter().filter(|answer| {
        let location = answer.location.as_deref().unwrap_or_default();
        location.starts_with("/commands/")
    });
    let replayed = answers
        .iter()
        .filter(|answer| answer.header("idempotency-replayed").is_some());
    let lost = history.len() - answers.len();
    [answers.len(), by_status.count(), replayed.count(), lost]
}

#[tokio::test]
async fn some_order_of_the_commands_explains_every_answer_whatever_is_killed() -> Result<()> {
    let seed = number("PROPERTY_SEED").unwrap_or_else(|| rand::random_range(0..1_000_000));
    let rounds = usize::try_from(number("PROPERTY_KILLS").unwrap_or(2))?;
    println!("PROPERTY_SEED={seed}");
    let mut run = Run::begin(seed).await?;
    for round in 0..rounds {
        run.round(round)
            .await
            .with_context(|| format!("round {round}"))?;
    }
    run.system.ready().await?;
    let mut total = [0; 4];
    for world in run.worlds.clone() {
        let coda = run.end(&world).await?;
        let history = world.history();
        check(&history)?;
        for fault in FAULTS {
            let altered = coda.plant(fault, &history)?;
            let found = checker::explain(&history::operations(&altered)?);
            let found = found.is_err_and(|unexplained| unexplained.certain);
            ensure!(found, "{fault:?} was not found");
        }
        for (total, figure) in total.iter_mut().zip(figures(&history)) {
            *total += figure;
        }
    }
    let [answered, by_status, replayed, lost] = total;
    println!(
        "{answered} answers ({by_status} to commands in the queue, {replayed} repeated), and {lost} requests without one"
    );
    ensure!(by_status > 0, "no command went through the queue");
    ensure!(lost > 0, "no request was interrupted");
    ensure!(replayed > 0, "no command was repeated");
    run.system.end();
    Ok(())
}
