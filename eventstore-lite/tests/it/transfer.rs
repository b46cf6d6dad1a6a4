//! `export` and `import`: the imported events read like the exported ones.

use std::path::Path;
use std::process::{Output, Stdio};

use eventstore_lite::Server;
use eventstore_lite::wire::shared::Empty;
use eventstore_lite::wire::streams::append_req::ProposedMessage;
use eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent;
use eventstore_lite::wire::streams::{TombstoneReq, tombstone_req};
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::process::EXECUTABLE;
use crate::support::tls::{PASSWORD, Secured};
use crate::support::{
    Client, any, append, connect, event, id_of, identifier, new_id, read_all, read_stream, soon,
    start,
};

const MARKER: &str = "of-a-deleted-stream";

/// A server with the files of one test.
struct Place {
    server: Server,
    client: Client,
    folder: TempDir,
}

impl Place {
    async fn new() -> Self {
        let (folder, server) = start().await;
        let client = connect(server.address()).await;
        Self {
            server,
            client,
            folder,
        }
    }

    fn url(&self) -> String {
        format!("esdb://{}?tls=false", self.server.address())
    }

    async fn append(&mut self, stream: &str, events: Vec<ProposedMessage>) {
        append(&mut self.client, stream, any(), events)
            .await
            .unwrap();
    }

    async fn export(&self, arguments: &[&str]) -> String {
        let file = self.folder.path().join(new_id());
        let name = file.to_str().unwrap();
        let output = run(&[&["export", "--url", &self.url(), name], arguments].concat()).await;
        assert!(output.status.success(), "{}", complaint(&output));
        std::fs::read_to_string(file).unwrap()
    }

    async fn import(&self, lines: &str) -> Output {
        let file = self.folder.path().join(new_id());
        std::fs::write(&file, lines).unwrap();
        run(&["import", "--url", &self.url(), file.to_str().unwrap()]).await
    }

    async fn refusal(&self, lines: &str) -> String {
        let output = self.import(lines).await;
        assert_eq!(output.status.code(), Some(1), "{}", complaint(&output));
        complaint(&output)
    }

    async fn take(&self, lines: &str) {
        let output = self.import(lines).await;
        assert!(output.status.success(), "{}", complaint(&output));
    }

    async fn tombstone(&mut self, stream: &str) {
        use tombstone_req::options::ExpectedStreamRevision::Any;
        let options = tombstone_req::Options {
            stream_identifier: Some(identifier(stream)),
            expected_stream_revision: Some(Any(Empty {})),
        };
        let request = TombstoneReq {
            options: Some(options),
        };
        self.client.tombstone(request).await.unwrap();
    }

    /// The events that readers of these streams get, and those of the whole log in its order.
    async fn content(&mut self, streams: &[&str]) -> Vec<Vec<Content>> {
        let mut contents = Vec::new();
        let mut ids = Vec::new();
        for stream in streams {
            let events = read_stream(&mut self.client, stream).await;
            ids.extend(events.iter().map(id_of));
            contents.push(events.iter().map(content).collect());
        }
        let log = read_all(&mut self.client).await;
        let order = log.iter().filter(|event| ids.contains(&id_of(event)));
        contents.push(order.map(content).collect());
        contents
    }
}

/// Everything of an event except its revision, position and time.
type Content = (String, String, [String; 2], Vec<u8>, Vec<u8>);

fn content(event: &RecordedEvent) -> Content {
    let stream = &event.stream_identifier.as_ref().unwrap().stream_name;
    (
        String::from_utf8(stream.to_vec()).unwrap(),
        id_of(event),
        ["type", "content-type"].map(|name| event.metadata[name].clone()),
        event.data.to_vec(),
        event.custom_metadata.to_vec(),
    )
}

async fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(EXECUTABLE);
    command.args(arguments).kill_on_drop(true);
    command.stdin(Stdio::null());
    soon("the command", command.output()).await.unwrap()
}

fn complaint(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

fn json(data: impl Into<Vec<u8>>) -> ProposedMessage {
    let mut event = event(&new_id(), data);
    let header = event.metadata.get_mut("content-type").unwrap();
    "application/json".clone_into(header);
    event
}

fn some(data: &str) -> Vec<ProposedMessage> {
    vec![event(&new_id(), data)]
}

/// A server with events of every kind. Those that can no longer be read contain [`MARKER`].
async fn source() -> Place {
    let mut source = Place::new().await;
    let mut with_metadata = json(r#"{"a":[1, 2.50],"a":"\u00e9"}"#);
    with_metadata.custom_metadata = br#"{"why": "because"}"#.to_vec().into();
    let mut with_bytes = event(&new_id(), vec![0, 255, 10]);
    with_bytes.custom_metadata = vec![255, 0].into();
    let odd = vec![
        event(&new_id(), MARKER),
        json("{\n  \"pretty\": true\n}"),
        json(" 1 "),
        json("no json"),
        json(""),
        event(&new_id(), "{\"json\":\"in a binary event\"}"),
        with_metadata,
        with_bytes,
    ];
    source.append("odd", odd).await;
    source.append("größe-\"1\"\n", some("of a name")).await;
    source.append("odd", some("and one more")).await;
    let limit = json(r#"{"$maxCount":8,"note":"kept"}"#);
    source.append("$$odd", vec![limit]).await;
    for number in 0..4 {
        source.append("truncated", some(&number.to_string())).await;
    }
    let truncated = json(r#"{"$tb":2,"$maxAge":3600}"#);
    source.append("$$truncated", vec![truncated]).await;
    source.append("deleted", some(MARKER)).await;
    let deleted = json(format!(r#"{{"$tb":{}}}"#, i64::MAX));
    source.append("$$deleted", vec![deleted]).await;
    source.append("again", some(MARKER)).await;
    let deleted = json(format!(r#"{{"$tb":{}}}"#, i64::MAX));
    source.append("$$again", vec![deleted]).await;
    source.append("again", some("a second life")).await;
    source.append("tombstoned", some(MARKER)).await;
    source.tombstone("tombstoned").await;
    source.append("$settings", some("of the server")).await;
    source
}

#[tokio::test]
async fn exported_and_imported_events_read_the_same() {
    let mut source = source().await;
    let lines = source.export(&[]).await;
    assert!(!lines.contains(MARKER), "{lines}");
    assert!(!lines.contains("$settings"), "{lines}");
    let mut target = Place::new().await;
    target.take(&lines).await;

    let streams = [
        "odd",
        "größe-\"1\"\n",
        "$$odd",
        "truncated",
        "again",
        "deleted",
    ];
    let before = source.content(&streams).await;
    assert_eq!(
        before.iter().map(Vec::len).collect::<Vec<_>>(),
        [8, 1, 1, 2, 1, 0, 13]
    );
    assert_eq!(target.content(&streams).await, before);
    let metadata = read_stream(&mut target.client, "$$truncated").await;
    assert_eq!(metadata.len(), 1);
    assert_eq!(metadata[0].data, br#"{"$maxAge":3600}"#.as_slice());
    let refused = append(&mut target.client, "tombstoned", any(), some("again")).await;
    assert!(refused.unwrap_err().message().contains("deleted"));

    // The control: a changed byte is found.
    let mut changed = Place::new().await;
    changed
        .take(&lines.replace("YW5kIG9uZSBtb3Jl", "YW5kIG9uZSBtb3JF"))
        .await;
    assert_ne!(changed.content(&streams).await, before);
}

#[tokio::test]
async fn events_with_much_metadata_can_be_imported() {
    let mut source = Place::new().await;
    for number in 0..40 {
        let mut event = event(&new_id(), number.to_string());
        event.custom_metadata = vec![b'x'; 500_000].into();
        source.append("much", vec![event]).await;
    }
    // The largest possible append: 1 MiB of data, and 16 MiB in total.
    let mut largest = event(&new_id(), vec![b'x'; 1024 * 1024]);
    largest.custom_metadata = vec![0; 15 * 1024 * 1024 - 1024].into();
    source.append("much", vec![largest]).await;
    let lines = source.export(&[]).await;
    let mut target = Place::new().await;
    target.take(&lines).await;
    let before = source.content(&["much"]).await;
    assert!(
        target.content(&["much"]).await == before,
        "the imported stream differs"
    );
}

#[tokio::test]
async fn an_interrupted_import_can_be_run_again() {
    let mut source = Place::new().await;
    for number in 0..30_u32 {
        let stream = ["a", "b"][usize::from(number % 7 < 3)];
        source.append(stream, some(&number.to_string())).await;
    }
    source.append("gone", some(MARKER)).await;
    source.tombstone("gone").await;
    let lines = source.export(&[]).await;
    let mut target = Place::new().await;
    let cut: String = lines.split_inclusive('\n').take(17).collect();
    target.take(&cut).await;
    // Other clients of the target do no harm.
    target.append("c", some("new")).await;
    target.take(&lines).await;
    target.take(&lines).await;
    let streams = ["a", "b"];
    assert_eq!(
        target.content(&streams).await,
        source.content(&streams).await
    );
    assert_eq!(read_all(&mut target.client).await.len(), 30 + 1 + 1);
}

#[tokio::test]
async fn a_stream_with_other_events_is_left_as_it_is() {
    let mut source = Place::new().await;
    source.append("before", some("first")).await;
    source.append("s", some("mine")).await;
    let lines = source.export(&[]).await;
    let mut target = Place::new().await;
    target.append("s", some("other")).await;
    let refusal_text = target.refusal(&lines).await;
    for part in ["from line 2 on", "`s`", "other events", "revision 0"] {
        assert!(refusal_text.contains(part), "{part}: {refusal_text}");
    }
    let kept = read_stream(&mut target.client, "s").await;
    assert_eq!(
        kept.iter().map(|event| &event.data[..]).collect::<Vec<_>>(),
        [b"other"]
    );
    assert_eq!(read_stream(&mut target.client, "before").await.len(), 1);

    let mut source = Place::new().await;
    source.tombstone("s").await;
    let refusal_text = target.refusal(&source.export(&[]).await).await;
    assert!(refusal_text.contains("tombstoning `s`"), "{refusal_text}");
    assert_eq!(read_stream(&mut target.client, "s").await.len(), 1);
}

#[tokio::test]
async fn chosen_streams_are_exported_with_their_metadata() {
    let mut source = Place::new().await;
    for stream in ["a", "b", "c"] {
        source.append(stream, some(stream)).await;
        source
            .append(&format!("$${stream}"), vec![json(r#"{"x":1}"#)])
            .await;
    }
    let lines = source.export(&["--stream", "c", "--stream", "a"]).await;
    let streams: Vec<String> = lines
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|line| line["stream"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(streams, ["c", "$$c", "a", "$$a"]);
    let missing = ["export", "--url", &source.url(), "--stream", "d"];
    let output = run(&missing).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("`d` has no events"),
        "{}",
        complaint(&output)
    );
}

#[tokio::test]
async fn a_wrong_line_is_named_and_changes_nothing() {
    const ID: &str = "00000000-0000-0000-0000-000000000001";
    let mut target = Place::new().await;
    let head =
        format!(r#"{{"stream":"s","id":"{ID}","type":"t","content_type":"application/json""#);
    for (line, refusal_text) in [
        ("nonsense".to_owned(), "expected"),
        ("[]".to_owned(), "invalid"),
        (head.clone(), "EOF"),
        (format!(r#"{head},"date":1}}"#), "unknown field `date`"),
        (
            format!(r#"{head},"data":1,"data_base64":"MQ=="}}"#),
            "exclude each other",
        ),
        (
            format!(r#"{head},"metadata":1,"metadata_base64":"MQ=="}}"#),
            "exclude each other",
        ),
        (
            format!(r#"{head},"data_base64":"?"}}"#),
            "`data_base64` is not base64",
        ),
        (format!("{head}}}").replace(ID, "1"), "UUID"),
        (
            format!("{head}}}").replace(r#""id""#, r#""ID""#),
            "unknown field `ID`",
        ),
    ] {
        let complaint = target.refusal(&format!("\n{line}\n")).await;
        assert!(complaint.contains("line 2"), "{line}: {complaint}");
        assert!(complaint.contains(refusal_text), "{line}: {complaint}");
    }
    assert_eq!(read_all(&mut target.client).await, []);
    // Errors that only the server can find also name the line.
    let too_large = format!(r#"{head},"data":"{}"}}"#, "x".repeat(2 * 1024 * 1024));
    let complaint = target.refusal(&too_large).await;
    assert!(complaint.contains("from line 1 on"), "{complaint}");
}

#[tokio::test]
async fn a_server_with_users_is_called_as_one_of_them() {
    let secured = Secured::start().await;
    let port = secured.server.address().port();
    let authority = secured.certificates.authority();
    let url = |credentials: &str| {
        let authority = authority.display();
        format!("esdb://{credentials}localhost:{port}?tls=true&tlsCaFile={authority}")
    };
    let admin = url(&format!("admin:{PASSWORD}@"));
    let line = r#"{"stream":"s","id":"00000000-0000-0000-0000-000000000001","type":"t","content_type":"application/json"}"#;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("lines");
    std::fs::write(&file, line).unwrap();
    let file = file.to_str().unwrap();
    let imported = run(&["import", "--url", &admin, file]).await;
    assert!(imported.status.success(), "{}", complaint(&imported));
    assert_eq!(complaint(&imported), "imported 1 events of 1 streams\n");
    let exported = run(&["export", "--url", &admin]).await;
    assert!(exported.status.success(), "{}", complaint(&exported));
    let text = String::from_utf8(exported.stdout).unwrap();
    assert!(text.starts_with(r#"{"stream":"s","revision":0,"#), "{text}");

    for (credentials, refusal_text) in [
        ("", "esdb://USER:PASSWORD@"),
        ("admin:hunter2@", "Unauthenticated"),
    ] {
        let output = run(&["export", "--url", &url(credentials)]).await;
        assert_eq!(output.status.code(), Some(1));
        assert!(
            complaint(&output).contains(refusal_text),
            "{}",
            complaint(&output)
        );
        assert!(
            !complaint(&output).contains("hunter2"),
            "{}",
            complaint(&output)
        );
    }
}

#[tokio::test]
async fn an_unusable_connection_string_is_explained() {
    for (url, refusal_text) in [
        ("localhost:2113", "must name one server"),
        ("esdb://admin:secret@a:1,b:2", "must name one server"),
        ("esdb+discover://admin:secret@a", "name the leader"),
        ("esdb://127.0.0.1:1?tls=maybe", "`tls`"),
        (
            "esdb://127.0.0.1:1?tls=false",
            "connecting to http://127.0.0.1:1",
        ),
        ("esdb://127.0.0.1:1?tlsVerifyCert=false", "tlsCaFile"),
        ("esdb://127.0.0.1:1?tlsCaFile=/nowhere.pem", "/nowhere.pem"),
    ] {
        let output = run(&["export", "--url", url]).await;
        assert_eq!(output.status.code(), Some(1), "{url}");
        assert!(
            complaint(&output).contains(refusal_text),
            "{url}: {}",
            complaint(&output)
        );
        assert!(
            !complaint(&output).contains("secret"),
            "{}",
            complaint(&output)
        );
    }
}

#[tokio::test]
async fn an_existing_file_is_not_overwritten() {
    let mut source = Place::new().await;
    source.append("s", some("x")).await;
    let file = source.folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    let output = run(&["export", "--url", &source.url(), file.to_str().unwrap()]).await;
    assert_eq!(output.status.code(), Some(1));
    assert!(
        complaint(&output).contains("was not written"),
        "{}",
        complaint(&output)
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "precious");
    assert_eq!(files(source.folder.path(), "file"), 1);
}

fn files(folder: &Path, name: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names
        .filter(|found| found == name || found.starts_with(".tmp"))
        .count()
}
