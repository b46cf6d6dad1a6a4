//! More requests than a service can answer: the store is slow, or there are very many connections.
//!
//! `SYSTEM_TESTS_CONNECTIONS` is the number of connections; the default is 2,000.

use anyhow::{Context, Result, ensure};
use private_broker::PrivateBroker;
use reqwest::Method;
use std::net::SocketAddr;
use system_tests::client::{Answer, user};
use system_tests::proxy::Proxy;
use system_tests::system::Node;
use system_tests::{Part, System, Users, unique, wait};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// How many commands the API of these tests executes at once.
const PLACES: usize = 8;
/// A connection costs a service less memory than this, whatever it has sent of a request with an ordinary head.
const MOST_BYTES: u64 = 32 * 1024;

/// A store behind a proxy, the ids, and an API with [`PLACES`].
async fn behind_a_proxy() -> Result<(System, Proxy)> {
    let broker = Node::Shared(PrivateBroker::shared().await);
    let url = broker.vhost().await;
    let parts = [Part::Store, Part::Uuids, Part::Projector, Part::Api];
    let mut system = System::prepare(&parts, broker, &url, "info")?;
    let store = system.address(Part::Store).context("a store")?;
    let proxy = Proxy::closed(store).await?;
    proxy.open();
    system.move_store(proxy.address());
    system.set(Part::Api, "REQUESTS_IN_FLIGHT", &PLACES.to_string())?;
    for part in parts {
        system.start_part(part).await?;
        system.serves(part).await?;
    }
    Ok((system, proxy))
}

fn is_refused(answer: &Answer) -> Result<()> {
    ensure!(answer.status == 503, "{answer:?}");
    ensure!(answer.problem() == "overloaded", "{answer:?}");
    ensure!(answer.header("retry-after") == Some("1"), "{answer:?}");
    Ok(())
}

fn begin(commands: &mut JoinSet<Result<Answer>>, users: &Users, count: usize) {
    for _ in 0..count {
        let users = users.clone();
        commands.spawn(async move { users.create(&user(&unique("busy"))).await });
    }
}

#[tokio::test]
async fn while_the_store_is_slow_one_command_too_many_is_refused_at_once_and_the_others_are_answered()
-> Result<()> {
    let (system, proxy) = behind_a_proxy().await?;
    let users = system.users()?;
    proxy.hold();
    let mut commands = JoinSet::new();
    begin(&mut commands, &users, PLACES + 1);
    let first = commands
        .join_next()
        .await
        .context("a command is answered")?;
    is_refused(&first??)?;
    for _ in 0..PLACES {
        is_refused(&users.create(&user(&unique("late"))).await?)?;
    }
    Answer::to(users.request(Method::GET, "/_healthz"))
        .await?
        .expect(200)?;
    let (_, readiness) = system.readiness(Part::Api).await?;
    let reason = "down: all 8 places for commands are taken, so others are refused";
    ensure!(
        readiness["dependencies"]["capacity"] == reason,
        "{readiness}"
    );
    ensure!(commands.try_join_next().is_none(), "the store is held");

    proxy.release();
    let answered = commands.join_all().await;
    ensure!(answered.len() == PLACES, "{answered:?}");
    for answer in answered {
        answer?.expect(201)?;
    }
    system.ready().await
}

fn connections() -> usize {
    let connections = std::env::var("SYSTEM_TESTS_CONNECTIONS").ok();
    let connections = connections.and_then(|connections| connections.parse().ok());
    connections.unwrap_or(2_000)
}

/// What a connection sends, and whether it waits for the answer.
struct Sent {
    text: String,
    answered: bool,
}

impl Sent {
    fn all(text: &str) -> Self {
        let text = text.to_owned();
        let answered = true;
        Self { text, answered }
    }

    fn a_part(text: &str) -> Self {
        Self {
            answered: false,
            ..Self::all(text)
        }
    }

    /// The parts come last, because a service ends a connection whose request does not arrive in time.
    fn to_users() -> Vec<Self> {
        let body = user(&unique("crowd")).to_string();
        let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
        let length = body.len();
        let post = format!("{head}Content-Length: {length}\r\n\r\n{body}");
        vec![
            Self::all("GET /_healthz HTTP/1.1\r\nHost: x\r\n\r\n"),
            Self::a_part(&post),
            Self::a_part(&post[..post.len() - 1]),
            Self::a_part(head),
        ]
    }

    fn to_uuids() -> Vec<Self> {
        vec![
            Self::all("GET /?count=1 HTTP/1.1\r\nHost: x\r\n\r\n"),
            Self::a_part("GET /?count=1 HTTP/1.1\r\nHost: x\r\n"),
        ]
    }
}

/// Opens `count` connections. Each kind has an equal share of them.
async fn open(address: SocketAddr, kinds: &[Sent], count: usize) -> Result<Vec<TcpStream>> {
    let mut connections = Vec::new();
    for kind in kinds {
        for _ in 0..count.div_ceil(kinds.len()) {
            let mut connection = TcpStream::connect(address).await?;
            connection.write_all(kind.text.as_bytes()).await?;
            if kind.answered {
                let count = connection.read(&mut [0; 1024]).await?;
                ensure!(count > 0, "the service closed the connection");
            }
            connections.push(connection);
        }
    }
    Ok(connections)
}

/// A figure of a process in KiB, such as `VmRSS`, the memory that it uses, and `VmHWM`, the most that it ever used.
fn memory(process: u32, figure: &str) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let figure = status.lines().find_map(|line| line.strip_prefix(figure));
    let kibibytes = figure.and_then(|figure| figure.split_whitespace().nth(1));
    Ok(kibibytes.context("a figure of the process")?.parse()?)
}

/// Opens many connections to a part. The part has all of them at one time, in bounded memory, and answers others meanwhile.
async fn bears_many_connections(
    system: &System,
    part: Part,
    kinds: &[Sent],
    another: &str,
) -> Result<()> {
    rlimit::increase_nofile_limit(u64::MAX)?;
    let address = system.address(part).context("a prepared part")?;
    let process = system.process_id(part).context("a running part")?;
    let count = connections();
    let before = memory(process, "VmRSS")?;
    let opened = open(address, kinds, count).await?;
    let count = opened.len();
    wait::until("the service has all connections", || async {
        let files = std::fs::read_dir(format!("/proc/{process}/fd"))?.count();
        ensure!(files >= count, "{files} open files");
        Ok(())
    })
    .await?;
    let users = Users::new(&format!("http://{address}"))?;
    Answer::to(users.request(Method::GET, another))
        .await?
        .expect(200)?;
    let bytes = (memory(process, "VmHWM")? - before) * 1024 / count as u64;
    eprintln!("{part:?}: {count} connections, {bytes} bytes each");
    ensure!(bytes <= MOST_BYTES, "{bytes} bytes for each connection");
    Ok(())
}

#[tokio::test]
async fn the_memory_of_many_connections_is_bounded() -> Result<()> {
    let (system, proxy) = behind_a_proxy().await?;
    bears_many_connections(&system, Part::Uuids, &Sent::to_uuids(), "/?count=1").await?;
    system.users()?.created(&unique("before")).await?;
    proxy.hold();
    bears_many_connections(&system, Part::Api, &Sent::to_users(), "/_healthz").await?;
    proxy.release();
    system.ready().await?;
    system.users()?.created(&unique("after")).await?;
    system.end();
    Ok(())
}
