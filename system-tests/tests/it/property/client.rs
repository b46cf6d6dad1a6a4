//! A client that sends random commands, repeats them, and gives up at random.

use super::history::{Action, Sent, Wish};
use super::model::NewNames;
use super::world::{World, given_name, now};
use anyhow::{Context, Result, bail};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::{Method, RequestBuilder};
use std::collections::BTreeSet;
use std::sync::Arc;
use system_tests::client::Answer;
use system_tests::{Part, Users, unique, wait};
use tokio::sync::watch;

/// How often a client sends one command at most.
const ATTEMPTS: usize = 6;

/// The way to the service.
#[derive(Debug, Clone)]
pub(super) enum Transport {
    /// To one process with the API.
    Http(Users),
    /// Through the queue of commands, and then by the status of the command from one process with the API.
    Queue(Users),
}

impl Transport {
    fn users(&self) -> &Users {
        match self {
            Self::Http(users) | Self::Queue(users) => users,
        }
    }

    /// Sends the command, or the read. `None` if there is no answer.
    async fn send(&self, action: &Action, key: Option<&str>) -> Result<Option<Answer>> {
        let users = self.users();
        let request = request(users, action, key);
        match self {
            Self::Http(_) => Ok(Answer::to(request).await.ok()),
            Self::Queue(_) => {
                let request = request.header("Prefer", "respond-async");
                match Answer::to(request).await {
                    Ok(accepted) if accepted.status == 202 => {
                        executed(users, &accepted).await.map(Some)
                    }
                    // A repeated command, and any command while the broker is away, is answered at once.
                    answer => Ok(answer.ok()),
                }
            }
        }
    }

    /// Waits until the service answers, after it did not.
    async fn recover(&self, down: &mut watch::Receiver<BTreeSet<Part>>) -> Result<()> {
        down.wait_for(BTreeSet::is_empty).await?;
        wait::until("the service can do its work", || async {
            let ready = Answer::to(self.users().request(Method::GET, "/_readyz")).await?;
            ready.expect(200)
        })
        .await?;
        Ok(())
    }
}

/// Waits until a command of the queue is executed, whatever is killed, and returns the answer that it would have had over HTTP.
async fn executed(users: &Users, accepted: &Answer) -> Result<Answer> {
    let link = accepted.location.as_deref().context("a link")?;
    wait::until("the command in the queue has an outcome", || async {
        let status = Answer::to(users.request(Method::GET, link)).await?;
        let answer = answer_of(status)?;
        Ok(Answer {
            location: Some(link.to_owned()),
            ..answer
        })
    })
    .await
}

/// The answer that a command would have had, by its status. Fails if there is none yet.
fn answer_of(mut status: Answer) -> Result<Answer> {
    if status.status == 410 {
        return Ok(status);
    }
    status = status.expect(200)?;
    let body = std::mem::take(&mut status.body);
    let outcome = match body["status"].as_str() {
        Some("done") => &body["result"],
        Some("refused") => &body["problem"],
        _ => bail!("{body}"),
    };
    let code = outcome["status"].as_u64().context("a status code")?;
    status.status = code.try_into()?;
    if let Some(etag) = outcome["etag"].as_str() {
        status.headers.insert("etag", etag.parse()?);
    }
    // An answer over HTTP without content has no id.
    if code != 204 {
        status.body = outcome.clone();
    }
    Ok(status)
}

fn request(users: &Users, action: &Action, key: Option<&str>) -> RequestBuilder {
    let (method, id, body, if_match) = match action {
        Action::Create(names) => (Method::POST, "", Some(names.body()), None),
        Action::Patch { id, new, if_match } => (
            Method::PATCH,
            id.as_str(),
            Some(new.body()),
            if_match.as_ref(),
        ),
        Action::Delete { id, if_match } => (Method::DELETE, id.as_str(), None, if_match.as_ref()),
        Action::Get { id } => (Method::GET, id.as_str(), None, None),
    };
    let mut request = users.request(method, &format!("/{id}"));
    if let Some(body) = body {
        request = request.json(&body);
    }
    if let Some(version) = if_match {
        request = request.header("If-Match", &**version);
    }
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    request
}

impl Action {
    pub(super) fn id(&self) -> Option<&str> {
        match self {
            Self::Create(_) => None,
            Self::Patch { id, .. } | Self::Delete { id, .. } | Self::Get { id } => Some(id),
        }
    }

    /// The same command with other names, if it has names.
    fn with_other_body(&self) -> Option<Self> {
        let given = Some("Other".into());
        match self.clone() {
            Self::Create(names) => Some(Self::Create(super::model::Names {
                given: "Other".into(),
                ..names
            })),
            Self::Patch { id, new, if_match } => Some(Self::Patch {
                id,
                new: NewNames { given, ..new },
                if_match,
            }),
            Self::Delete { .. } | Self::Get { .. } => None,
        }
    }
}

/// Whether the answer says what became of the command.
fn is_final(answer: Option<&Answer>) -> bool {
    answer.is_some_and(|answer| answer.status != 503 && answer.problem() != "contended")
}

pub(super) struct Client {
    random: StdRng,
    transports: Vec<Transport>,
    /// The parts that are killed and not yet running again.
    down: watch::Receiver<BTreeSet<Part>>,
    /// Counts the answers of all clients.
    answered: watch::Sender<usize>,
}

impl Client {
    pub(super) fn new(
        seed: u64,
        transports: Vec<Transport>,
        down: watch::Receiver<BTreeSet<Part>>,
        answered: watch::Sender<usize>,
    ) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            transports,
            down,
            answered,
        }
    }

    /// Does so many random things in these worlds.
    pub(super) async fn act(mut self, worlds: &[Arc<World>], count: usize) -> Result<()> {
        let mut earlier: Vec<(Arc<World>, Arc<Wish>)> = Vec::new();
        for _ in 0..count {
            let repeated = !earlier.is_empty() && self.random.random_bool(0.1);
            if repeated {
                let (world, wish) = &earlier[self.random.random_range(0..earlier.len())];
                self.send(world, wish).await?;
                continue;
            }
            let world = &worlds[self.random.random_range(0..worlds.len())];
            let wish = Arc::new(self.wish(world));
            self.pursue(world, &wish).await?;
            if wish.key.is_some() {
                earlier.push((Arc::clone(world), wish));
            }
        }
        Ok(())
    }

    /// Sends this once, and again until there is an answer.
    pub(super) async fn ask(&mut self, world: &World, action: Action) -> Result<Answer> {
        let wish = Arc::new(Wish {
            number: world.number(),
            action,
            key: None,
        });
        for _ in 0..ATTEMPTS {
            let answer = self.send(world, &wish).await?;
            if let Some(answer) = answer.filter(|answer| is_final(Some(answer))) {
                return Ok(answer);
            }
            self.recover().await?;
        }
        Err(anyhow::anyhow!("no answer to {wish:?}"))
    }

    fn wish(&mut self, world: &World) -> Wish {
        let action = self.action(world);
        let is_command = !matches!(action, Action::Get { .. });
        let key = (is_command && self.random.random_bool(0.5)).then(|| unique("key"));
        Wish {
            number: world.number(),
            action,
            key,
        }
    }

    fn action(&mut self, world: &World) -> Action {
        let random = &mut self.random;
        let Some(user) = world.user(random) else {
            return Action::Create(world.new_user(random));
        };
        let versions = &user.versions;
        // Mostly the last version that was seen, which may be old already.
        let seen = if random.random_bool(0.7) {
            versions.len() - 1
        } else {
            random.random_range(0..versions.len())
        };
        let if_match = random.random_bool(0.3).then(|| versions[seen].clone());
        let id = user.id;
        match random.random_range(0..100) {
            0..25 => Action::Create(world.new_user(random)),
            25..45 => {
                let new = NewNames {
                    given: Some(given_name(random)),
                    ..NewNames::default()
                };
                Action::Patch { id, new, if_match }
            }
            45..68 => {
                let new = NewNames {
                    username: Some(world.username(random)),
                    family: random.random_bool(0.3).then(|| given_name(random)),
                    ..NewNames::default()
                };
                Action::Patch { id, new, if_match }
            }
            68..82 => Action::Delete { id, if_match },
            _ => Action::Get { id },
        }
    }

    /// Sends a command once or twice at the same time, and mostly again if there is no answer.
    async fn pursue(&mut self, world: &World, wish: &Arc<Wish>) -> Result<()> {
        for _ in 0..ATTEMPTS {
            let twice = wish.key.is_some() && self.random.random_bool(0.2);
            let is_answered = if twice {
                self.send_twice(world, wish).await?
            } else {
                is_final(self.send(world, wish).await?.as_ref())
            };
            if is_answered {
                break;
            }
            self.recover().await?;
            if self.random.random_bool(0.2) {
                return Ok(());
            }
        }
        if wish.key.is_some() && self.random.random_bool(0.05) {
            self.reuse_key(world, wish).await?;
        }
        Ok(())
    }

    async fn send(&mut self, world: &World, wish: &Arc<Wish>) -> Result<Option<Answer>> {
        let transport = self.transport();
        let answer = deliver(&transport, world, wish, false).await?;
        self.answered.send_modify(|count| *count += 1);
        Ok(answer)
    }

    async fn send_twice(&mut self, world: &World, wish: &Arc<Wish>) -> Result<bool> {
        let (one, other) = (self.transport(), self.transport());
        let answers = tokio::try_join!(
            deliver(&one, world, wish, false),
            deliver(&other, world, wish, false)
        )?;
        self.answered.send_modify(|count| *count += 2);
        Ok(is_final(answers.0.as_ref()) || is_final(answers.1.as_ref()))
    }

    /// Sends another command with the key of one that was executed, which is refused. It is not sent through the queue: while
    /// the store is away, the queue takes it, and its status is that of the command that was executed.
    async fn reuse_key(&mut self, world: &World, wish: &Arc<Wish>) -> Result<()> {
        let executed = world.history().iter().any(|sent| {
            let status = sent.answer.as_ref().map(|answer| answer.status);
            sent.wish.number == wish.number && matches!(status, Some(201 | 204))
        });
        if executed && wish.action.with_other_body().is_some() {
            let at_once = Transport::Http(self.transport().users().clone());
            deliver(&at_once, world, wish, true).await?;
            self.answered.send_modify(|count| *count += 1);
        }
        Ok(())
    }

    fn transport(&mut self) -> Transport {
        let chosen = self.random.random_range(0..self.transports.len());
        self.transports[chosen].clone()
    }

    async fn recover(&mut self) -> Result<()> {
        for transport in &self.transports {
            transport
                .recover(&mut self.down)
                .await
                .context("the service is back")?;
        }
        Ok(())
    }
}

async fn deliver(
    transport: &Transport,
    world: &World,
    wish: &Arc<Wish>,
    other_body: bool,
) -> Result<Option<Answer>> {
    let began = now();
    let other = wish.action.with_other_body().filter(|_| other_body);
    let action = other.as_ref().unwrap_or(&wish.action);
    let answer = transport.send(action, wish.key.as_deref()).await?;
    world.note(Sent {
        wish: Arc::clone(wish),
        other_body,
        queued: matches!(transport, Transport::Queue(_)),
        began,
        ended: now(),
        answer: answer.clone(),
    });
    Ok(answer)
}
