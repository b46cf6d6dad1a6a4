//! How the time of a POST is shared by its steps. The steps run in this process, by the code of users-service, on real servers.
//! The whole creation, by the same code, stands beside them.

use crate::Arguments;
use anyhow::{Result, ensure};
use event_streams::{EventStreams, Expected};
use messaging::{Broker, RpcClient};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};
use system_tests::system::Node;
use system_tests::{Part, System, unique};
use tokio::task::JoinSet;
use users_service::command::envelope::{Command, Envelope};
use users_service::command::handler::CommandHandler;
use users_service::database::Databases;
use users_service::domain::{Claim, FamilyName, GivenName, Profile, UserEvent, Username};
use users_service::ids::{IdSource, OverBroker, OverHttp};
use users_service::privacy::cipher::MasterKey;
use users_service::privacy::pseudonym::UsernameSecret;
use users_service::privacy::subject_keys::SubjectKeys;
use users_service::stored_event::{ReservationEvent, StoredEvent, user_stream};
use uuid::Uuid;

const NAMES: [&str; 4] = ["id", "claim", "sealing", "create"];

/// The times of all creations together, for each number of creations at once.
pub(crate) struct Steps(Vec<Row>);

struct Row {
    at_once: usize,
    creations: u32,
    steps: [Duration; NAMES.len()],
    /// The number of whole creations, and their time.
    whole: (u32, Duration),
}

/// What a creation needs.
struct Parts {
    store: EventStreams,
    keys: SubjectKeys,
    ids: IdSource,
    secret: UsernameSecret,
    handler: CommandHandler,
}

/// Measures with servers of their own.
pub(crate) async fn measure(broker: Node, arguments: &Arguments) -> Result<Steps> {
    let url = broker.vhost().await;
    let servers = [Part::Store, Part::Uuids];
    let mut system = System::prepare(&servers, broker, &url, "info")?;
    for part in servers {
        system.start_part(part).await?;
    }
    system.ready().await?;
    let parts = Arc::new(Parts::connect(&system, &url).await?);
    let length = Duration::from_secs(arguments.seconds);
    let mut rows = Vec::new();
    for at_once in &arguments.connections {
        eprintln!("measuring the steps of {at_once} creations at once");
        row(&parts, *at_once, length / 5).await?;
        rows.push(row(&parts, *at_once, length).await?);
    }
    system.end();
    Ok(Steps(rows))
}

async fn row(parts: &Arc<Parts>, at_once: usize, length: Duration) -> Result<Row> {
    let mut row = Row {
        at_once,
        creations: 0,
        steps: Default::default(),
        whole: Default::default(),
    };
    let mut stepwise = JoinSet::new();
    let end = Instant::now() + length;
    for _ in 0..at_once {
        let parts = Arc::clone(parts);
        stepwise.spawn(async move { parts.create_stepwise(end).await });
    }
    while let Some(done) = stepwise.join_next().await {
        let (creations, steps) = done??;
        row.creations += creations;
        for (sum, step) in row.steps.iter_mut().zip(steps) {
            *sum += step;
        }
    }
    let mut whole = JoinSet::new();
    let end = Instant::now() + length;
    for _ in 0..at_once {
        let parts = Arc::clone(parts);
        whole.spawn(async move { parts.create_whole(end).await });
    }
    while let Some(done) = whole.join_next().await {
        let (creations, time) = done??;
        row.whole.0 += creations;
        row.whole.1 += time;
    }
    Ok(row)
}

/// A new user. Nobody else has this name.
fn profile() -> Result<Profile> {
    let username = unique("step");
    Ok(Profile {
        given_name: GivenName::parse(format!("Given {username}"))?,
        family_name: FamilyName::parse(format!("Family {username}"))?,
        username: Username::parse(&username)?,
    })
}

impl Parts {
    async fn connect(system: &System, amqp_url: &str) -> Result<Self> {
        let (store, broker) = (system.store()?, Broker::connect(amqp_url, "bench")?);
        let master: MasterKey = "0c".repeat(32).parse()?;
        let keys =
            SubjectKeys::open(&Databases::Folder(system.folder().to_owned()), master).await?;
        let secret: UsernameSecret = "0d".repeat(32).parse()?;
        let over_http = OverHttp::new(&system.uuids_url(), None)?;
        let over_broker = OverBroker::new(RpcClient::new(broker, "uuids"));
        let ids = IdSource::new(vec![Box::new(over_broker), Box::new(over_http)]);
        let (store_too, keys_too) = (store.clone(), keys.clone());
        Ok(Self {
            handler: CommandHandler::new(store_too, keys_too, secret.clone(), ids.clone()),
            store,
            keys,
            ids,
            secret,
        })
    }

    /// Creates users until the end, as [`CommandHandler`] does. Returns their number and the time of each step.
    async fn create_stepwise(&self, end: Instant) -> Result<(u32, [Duration; NAMES.len()])> {
        let mut steps = [Duration::ZERO; NAMES.len()];
        let mut creations = 0;
        while Instant::now() < end {
            let profile = profile()?;
            let mut last = Instant::now();
            let mut passed = |step: usize| {
                let now = Instant::now();
                steps[step] += now - std::mem::replace(&mut last, now);
            };
            let user = self.ids.next().await?;
            passed(0);
            let key = self.keys.fresh().await?;
            let reservation = self.secret.reservation(&profile.username);
            let claimed = vec![ReservationEvent::claimed(user).encode(Uuid::new_v4())];
            let stream = reservation.as_str().to_owned();
            let revision = self.append(&stream, claimed).await?;
            passed(1);
            let claim = Claim {
                reservation,
                revision,
            };
            let created = UserEvent::Created { profile, claim };
            let created = vec![StoredEvent::encode(Uuid::new_v4(), user, &created, &key)];
            passed(2);
            self.append(&user_stream(user), created).await?;
            passed(3);
            creations += 1;
        }
        Ok((creations, steps))
    }

    async fn append(&self, stream: &str, events: Vec<event_streams::NewEvent>) -> Result<u64> {
        let appended = self
            .store
            .append(stream, Expected::NoStream, events)
            .await?;
        ensure!(appended.revision == 0, "{appended:?}");
        Ok(appended.revision)
    }

    async fn create_whole(&self, end: Instant) -> Result<(u32, Duration)> {
        let mut creations = 0;
        let began = Instant::now();
        while Instant::now() < end {
            let create = Envelope::new(Command::Create(profile()?));
            self.handler.execute(&create).await?;
            creations += 1;
        }
        Ok((creations, began.elapsed()))
    }
}

impl fmt::Display for Steps {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the steps of a POST without HTTP, mean ms and share:")?;
        for row in &self.0 {
            let total: Duration = row.steps.iter().sum();
            write!(f, "{:>4} at once:", row.at_once)?;
            for (name, step) in NAMES.iter().zip(row.steps) {
                let share = step.as_secs_f64() / total.as_secs_f64() * 100.0;
                let mean = milliseconds(step, row.creations);
                write!(f, " {name} {mean:.3} ({share:.0} %),")?;
            }
            let (creations, time) = row.whole;
            let (steps, whole) = (
                milliseconds(total, row.creations),
                milliseconds(time, creations),
            );
            writeln!(f, " together {steps:.3}; by the command handler {whole:.3}")?;
        }
        Ok(())
    }
}

fn milliseconds(time: Duration, count: u32) -> f64 {
    time.as_secs_f64() * 1e3 / f64::from(count)
}
