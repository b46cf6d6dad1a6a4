//! TLS and users, through the unmodified client and over HTTP.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::process::Stdio;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use eventstore::{
    Acl, AppendToStreamOptions, Client, DeleteStreamOptions, Error, EventData, ExpectedRevision,
    StreamAclBuilder, StreamMetadataBuilder, StreamPosition, SubscribeToStreamOptions,
    TombstoneStreamOptions,
};
use eventstore_lite::wire::shared::Empty;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::Command;
use tonic::Request;
use tonic::client::Grpc;
use tonic::transport::{Certificate, Channel, ClientTlsConfig};
use tonic_prost::ProstCodec;

use crate::support::process::{EXECUTABLE, Process};
use crate::support::soon;
use crate::support::tls::{Certificates, PASSWORD, Secured};

async fn append(client: &Client, stream: &str) -> eventstore::Result<u64> {
    let event = EventData::binary("happened", b"x".as_slice().into());
    let options = AppendToStreamOptions::default();
    let written = client.append_to_stream(stream, &options, event).await?;
    Ok(written.next_expected_version)
}

/// Appends through a batch session.
async fn batch(client: &Client, stream: &str) -> eventstore::Result<()> {
    let session = client
        .batch_append(&eventstore::BatchAppendOptions::default())
        .await?;
    let event = EventData::binary("happened", b"x".as_slice().into());
    session
        .append_to_stream(stream, ExpectedRevision::Any, vec![event])
        .await
        .map(drop)
}

/// Reads the stream, and returns the number of events.
async fn read(client: &Client, stream: &str) -> eventstore::Result<usize> {
    let options = eventstore::ReadStreamOptions::default();
    let mut events = client.read_stream(stream, &options).await?;
    let mut count = 0;
    while events.next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

async fn read_all(client: &Client) -> eventstore::Result<usize> {
    let mut events = client
        .read_all(&eventstore::ReadAllOptions::default())
        .await?;
    let mut count = 0;
    while events.next().await?.is_some() {
        count += 1;
    }
    Ok(count)
}

fn denied<T: std::fmt::Debug>(result: Result<T, Error>) {
    let error = result.unwrap_err();
    assert!(matches!(error, Error::AccessDenied), "{error:?}");
}

fn code<T: std::fmt::Debug>(result: Result<T, Error>) -> String {
    match result {
        Err(Error::Grpc { code, .. }) => format!("{code:?}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_user_writes_and_reads_over_tls() {
    let secured = Secured::start().await;
    let client = secured.client_of("user");
    assert_eq!(append(&client, "orders-1").await.unwrap(), 0);
    batch(&client, "orders-1").await.unwrap();
    assert_eq!(read(&client, "orders-1").await.unwrap(), 2);
    let options = SubscribeToStreamOptions::default().start_from(StreamPosition::Start);
    let mut subscription = client.subscribe_to_stream("orders-1", &options).await;
    let event = soon("an event", subscription.next()).await.unwrap();
    assert_eq!(event.get_original_event().event_type, "happened");
}

#[tokio::test]
async fn a_caller_without_a_right_password_is_refused() {
    let secured = Secured::start().await;
    let nobody = secured.client(None);
    for client in [
        secured.client(Some("user:wrong")),
        secured.client(Some("x:changeit")),
        nobody,
    ] {
        denied(append(&client, "s").await);
        denied(read(&client, "s").await);
        denied(read_all(&client).await);
    }
    let missing = read(&secured.client_of("user"), "s").await;
    assert!(
        matches!(missing, Err(Error::ResourceNotFound)),
        "{missing:?}"
    );
}

/// The status code of a call, which the official client does not expose.
async fn grpc_status(secured: &Secured, method: &str, credentials: Option<&str>) -> String {
    let authority = std::fs::read(secured.certificates.authority()).unwrap();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority));
    let port = secured.server.address().port();
    let endpoint = Channel::from_shared(format!("https://localhost:{port}")).unwrap();
    let channel = endpoint.tls_config(tls).unwrap().connect().await.unwrap();
    let mut client = Grpc::new(channel);
    client.ready().await.unwrap();
    let mut request = Request::new(Empty {});
    if let Some(credentials) = credentials {
        let shown = format!("Basic {}", BASE64_STANDARD.encode(credentials));
        let headers = request.metadata_mut();
        headers.insert("authorization", shown.parse().unwrap());
    }
    let path = format!("/event_store.client.{method}").parse().unwrap();
    let codec = ProstCodec::<Empty, Empty>::default();
    let status = client.unary(request, path, codec).await.unwrap_err();
    let exception = status.metadata().get("exception");
    let exception = exception.map(|text| text.to_str().unwrap());
    format!("{} {}", status.code() as i32, exception.unwrap_or_default())
}

#[tokio::test]
async fn a_wrong_password_a_missing_one_and_a_low_role_are_distinguished() {
    let secured = Secured::start().await;
    let read = "streams.Streams/Read";
    let stop = "operations.Operations/Shutdown";
    let (unauthenticated, denied, unimplemented) = ("16", "7 access-denied", "12");
    let right = format!("user:{PASSWORD}");
    for (method, credentials, status) in [
        (read, Some("user:wrong"), unauthenticated),
        (read, Some("x:changeit"), unauthenticated),
        (read, None, denied),
        (stop, Some(right.as_str()), denied),
        ("users.Users/Create", Some(right.as_str()), unimplemented),
        (
            "projections.Projections/Create",
            Some(right.as_str()),
            unimplemented,
        ),
    ] {
        let answer = grpc_status(&secured, method, credentials).await;
        assert_eq!(answer.trim(), status, "{method} {credentials:?}");
    }
}

#[tokio::test]
async fn system_streams_are_for_admins() {
    let secured = Secured::start().await;
    let (admin, user) = (secured.client_of("admin"), secured.client_of("user"));
    append(&admin, "$settings").await.unwrap();
    batch(&admin, "$settings").await.unwrap();
    assert_eq!(read(&admin, "$settings").await.unwrap(), 2);
    assert_eq!(read_all(&admin).await.unwrap(), 2);
    denied(append(&user, "$settings").await);
    assert_eq!(code(batch(&user, "$settings").await), "PermissionDenied");
    denied(read(&user, "$settings").await);
    denied(read_all(&user).await);
    denied(
        user.delete_stream("$settings", &DeleteStreamOptions::default())
            .await,
    );
    denied(
        user.tombstone_stream("$settings", &TombstoneStreamOptions::default())
            .await,
    );
    assert_eq!(read(&admin, "$settings").await.unwrap(), 2);
}

#[tokio::test]
async fn access_control_lists_are_refused_because_they_would_not_be_applied() {
    let secured = Secured::start().await;
    let user = secured.client_of("user");
    let options = AppendToStreamOptions::default();
    let acl = Acl::Stream(StreamAclBuilder::new().add_read_roles("$admins").build());
    let with_list = StreamMetadataBuilder::new().acl(acl).build();
    let refused = user.set_stream_metadata("s", &options, &with_list).await;
    assert!(
        matches!(refused, Err(Error::UnsupportedFeature)),
        "{refused:?}"
    );
    let without = StreamMetadataBuilder::new().max_count(5).build();
    user.set_stream_metadata("s", &options, &without)
        .await
        .unwrap();
}

#[tokio::test]
async fn health_and_gossip_are_open_and_figures_are_for_users() {
    let secured = Secured::start().await;
    append(&secured.client_of("user"), "s").await.unwrap();
    for (path, status) in [
        ("/health/live", "204"),
        ("/info", "200"),
        ("/gossip", "200"),
        ("/metrics", "401"),
        ("/nothing", "401"),
    ] {
        let answer = secured.http(&format!("GET {path}"), "").await;
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
    }
    let challenged = secured.http("GET /metrics", "").await;
    assert!(
        challenged.contains("www-authenticate: Basic"),
        "{challenged}"
    );
    let user = BASE64_STANDARD.encode(format!("user:{PASSWORD}"));
    let figures = secured
        .http("GET /metrics", &format!("Authorization: Basic {user}\r\n"))
        .await;
    assert!(figures.starts_with("HTTP/1.1 200 "), "{figures}");
    for line in [
        "eventstore_io_events{activity=\"written\"} 1",
        "eventstore_kestrel_connections ",
        "eventstore_scavenge_running 0",
        "eventstore_db_size_bytes{file=\"db\"} ",
    ] {
        assert!(figures.contains(line), "{figures}");
    }
    let types = figures.lines().filter(|line| line.starts_with("# TYPE"));
    let types: Vec<_> = types.collect();
    let different: HashSet<_> = types.iter().collect();
    assert_eq!(
        different.len(),
        types.len(),
        "a figure exists twice: {types:?}"
    );
}

#[tokio::test]
async fn plaintext_on_a_port_with_tls_does_no_harm() {
    let secured = Secured::start().await;
    for text in [
        &b"GET /health/live HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ] {
        let mut socket = TcpStream::connect(secured.server.address()).await.unwrap();
        socket.write_all(text).await.unwrap();
        let mut answer = Vec::new();
        // The connection ends, with an alert or a reset, and nothing is answered in plaintext.
        drop(soon("the end", socket.read_to_end(&mut answer)).await);
        assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
    }
    append(&secured.client_of("user"), "s").await.unwrap();
}

#[tokio::test]
async fn a_server_with_tls_that_stops_tells_its_subscribers_to_reconnect() {
    let secured = Secured::start().await;
    let client = secured.client_of("admin");
    append(&client, "s").await.unwrap();
    let options = SubscribeToStreamOptions::default().start_from(StreamPosition::Start);
    let mut subscription = client.subscribe_to_stream("s", &options).await;
    soon("an event", subscription.next()).await.unwrap();
    soon("the shutdown", secured.server.shutdown()).await;
    let ended = soon("the end", subscription.next()).await.unwrap_err();
    assert!(matches!(ended, Error::ServerError(_)), "{ended:?}");
}

/// The error output of the executable when it does not start.
async fn refusal(arguments: &[&str]) -> String {
    let db = tempfile::tempdir().unwrap();
    let mut command = Command::new(EXECUTABLE);
    command
        .args(["--node-port", "0", "--db"])
        .arg(db.path())
        .args(arguments);
    let ended = soon("the refusal", command.kill_on_drop(true).output())
        .await
        .unwrap();
    assert!(!ended.status.success());
    String::from_utf8(ended.stderr).unwrap()
}

#[tokio::test]
async fn a_server_starts_only_if_its_options_say_how_to_authenticate_callers() {
    let nothing = refusal(&[]).await;
    assert!(
        nothing.contains("--insecure") && nothing.contains("--certificate"),
        "{nothing}"
    );
    let network = refusal(&["--insecure", "--node-ip", "0.0.0.0"]).await;
    assert!(network.contains("--allow-insecure-network"), "{network}");
    let certificates = Certificates::new();
    let (certificate, key) = (certificates.certificate(), certificates.key());
    let with_tls = [
        "--certificate",
        certificate.to_str().unwrap(),
        "--certificate-key",
        key.to_str().unwrap(),
    ];
    let nobody = refusal(&with_tls).await;
    assert!(
        nobody.contains("EVENTSTORE_DEFAULT_ADMIN_PASSWORD"),
        "{nobody}"
    );
    assert!(refusal(&with_tls[..2]).await.contains("--certificate-key"));
}

/// The output of `hash-password`.
async fn hash_of(password: &str) -> String {
    let mut command = Command::new(EXECUTABLE);
    let command = command.arg("hash-password").kill_on_drop(true);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(password.as_bytes()).await.unwrap();
    drop(stdin);
    let ended = soon("the hash", child.wait_with_output()).await.unwrap();
    String::from_utf8(ended.stdout).unwrap()
}

#[tokio::test]
async fn a_user_of_the_users_file_is_admitted() {
    let db = tempfile::tempdir().unwrap();
    let certificates = Certificates::new();
    let users = tempfile::NamedTempFile::new().unwrap();
    let line = format!("ada:admin:{}", hash_of("changeit\n").await);
    std::fs::write(users.path(), line).unwrap();
    let mut command = Command::new(EXECUTABLE);
    // One option has the name of the real server, another comes from a variable.
    command.args(["--node-port", "0", "--db"]).arg(db.path());
    command
        .arg("--certificate-file")
        .arg(certificates.certificate());
    command.env(
        "EVENTSTORE_CERTIFICATE_PRIVATE_KEY_FILE",
        certificates.key(),
    );
    command.arg("--users-file").arg(users.path());
    let server = Process::listening(command).await;
    let port = server.address.parse::<SocketAddr>().unwrap().port();
    let ada = certificates.client(port, Some("ada:changeit"));
    append(&ada, "$settings").await.unwrap();
    assert_eq!(read_all(&ada).await.unwrap(), 1);
    denied(append(&certificates.client(port, Some("ada:changed")), "s").await);
    server.kill().await;
}

/// `kill -HUP`.
async fn hang_up(server: &Process) {
    let id = server.child.id().unwrap().to_string();
    let sent = Command::new("kill").args(["-HUP", &id]).status().await;
    assert!(sent.unwrap().success());
}

#[tokio::test]
async fn a_hangup_does_not_stop_a_server_but_reloads_its_certificate() {
    let db = tempfile::tempdir().unwrap();
    let (old, new) = (Certificates::new(), Certificates::new());
    let mut command = Command::new(EXECUTABLE);
    command.args(["--node-port", "0", "--db"]).arg(db.path());
    command.arg("--certificate").arg(old.certificate());
    command.arg("--certificate-key").arg(old.key());
    command.env("EVENTSTORE_DEFAULT_ADMIN_PASSWORD", PASSWORD);
    let server = Process::listening(command).await;
    let port = server.address.parse::<SocketAddr>().unwrap().port();
    let admin = format!("admin:{PASSWORD}");
    let open = old.client(port, Some(&admin));
    append(&open, "s").await.unwrap();

    // An invalid certificate changes nothing.
    let certificate = std::fs::read(old.certificate()).unwrap();
    std::fs::write(old.certificate(), "no certificate").unwrap();
    hang_up(&server).await;
    append(&old.client(port, Some(&admin)), "s").await.unwrap();
    std::fs::write(old.certificate(), certificate).unwrap();

    std::fs::copy(new.certificate(), old.certificate()).unwrap();
    std::fs::copy(new.key(), old.key()).unwrap();
    hang_up(&server).await;
    soon("the new certificate", async {
        while append(&new.client(port, Some(&admin)), "s").await.is_err() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    append(&open, "s").await.unwrap();
    assert!(append(&old.client(port, Some(&admin)), "s").await.is_err());
    server.kill().await;
}

#[tokio::test]
async fn the_page_shows_a_user_what_the_user_may_read() {
    let secured = Secured::start().await;
    append(&secured.client_of("user"), "s").await.unwrap();
    append(&secured.client_of("admin"), "$s").await.unwrap();
    let status = async |request: &str, user: &str| {
        let credentials = BASE64_STANDARD.encode(format!("{user}:{PASSWORD}"));
        let headers = format!("Authorization: Basic {credentials}\r\n");
        let answer = secured.http(request, &headers).await;
        answer.split(' ').nth(1).unwrap().to_owned()
    };
    for (request, user, expected) in [
        ("GET /web", "nobody", "401"),
        ("GET /web", "user", "200"),
        ("GET /web/api/events?stream=s", "user", "200"),
        ("GET /web/api/events?stream=$s", "user", "403"),
        ("GET /web/api/events?stream=$s", "admin", "200"),
        ("GET /web/api/events", "user", "403"),
        ("GET /web/api/tail?stream=$s", "user", "403"),
        ("GET /web/api/streams?prefix=$", "user", "403"),
        ("GET /web/api/streams?prefix=$$", "user", "403"),
        ("GET /web/api/streams?prefix=$ce-", "user", "200"),
        ("GET /web/api/streams?prefix=$", "admin", "200"),
        ("GET /web/api/groups", "user", "403"),
        ("GET /web/api/groups", "admin", "200"),
        ("GET /web/api/events?before=x", "admin", "400"),
        // This is what a form on a foreign web page sends.
        ("POST /web/api/groups/replay", "admin", "415"),
    ] {
        assert_eq!(status(request, user).await, expected, "{request} by {user}");
    }
    let credentials = BASE64_STANDARD.encode(format!("user:{PASSWORD}"));
    let headers = format!("Authorization: Basic {credentials}\r\n");
    let listed = secured.http("GET /web/api/streams?prefix=", &headers).await;
    assert!(
        listed.contains("\"s\"") && !listed.contains("$s"),
        "{listed}"
    );
}
