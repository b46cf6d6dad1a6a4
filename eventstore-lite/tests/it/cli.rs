//! Tests of the subcommands as processes, with and without a running server.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use rusqlite::Connection;
use tempfile::TempDir;
use tokio::process::Command;

use crate::support::process::{EXECUTABLE, Process};
use crate::support::{any, append, connect, event, new_id, read_all, read_stream, soon};

/// Runs a subcommand to its end.
async fn run<const N: usize>(arguments: [&OsStr; N]) -> Output {
    finish(Command::new(EXECUTABLE).args(arguments)).await
}

async fn finish(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).kill_on_drop(true);
    soon("the end of the command", command.output())
        .await
        .unwrap()
}

fn printed(output: &Output) -> String {
    let texts = [&output.stdout[..], &output.stderr[..]];
    String::from_utf8_lossy(&texts.concat()).into_owned()
}

/// The arguments of a subcommand on a database.
macro_rules! arguments {
    ($subcommand:literal $(, $more:expr)*; $db:expr) => {
        [OsStr::new($subcommand) $(, OsStr::new(&$more))*, OsStr::new("--db"), OsStr::new(&$db)]
    };
}

async fn succeeds<const N: usize>(arguments: [&OsStr; N]) -> String {
    let output = run(arguments).await;
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        printed(&output)
    );
    printed(&output)
}

async fn fails<const N: usize>(arguments: [&OsStr; N], code: i32, why: &str) {
    let output = run(arguments).await;
    let printed = printed(&output);
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {printed}");
    assert!(printed.contains(why), "{arguments:?}: {printed}");
}

/// A server with some events in a folder.
async fn serve(db: &Path, events: usize) -> Process {
    let server = Process::start(db).await;
    let mut client = connect(&server.address).await;
    let events = (0..events).map(|number| event(&new_id(), number.to_string()));
    append(&mut client, "s", any(), events.collect())
        .await
        .unwrap();
    server
}

async fn data(db: &Path) -> Vec<Vec<u8>> {
    let server = Process::start(db).await;
    let log = read_all(&mut connect(&server.address).await).await;
    server.kill().await;
    log.into_iter().map(|event| event.data.to_vec()).collect()
}

#[tokio::test]
async fn verify_distinguishes_sound_from_damaged() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let server = serve(db, 3).await;
    let beside = succeeds(arguments!("verify"; db)).await;
    assert!(beside.contains("is sound"), "{beside}");
    server.kill().await;
    succeeds(arguments!("verify"; db)).await;
    Connection::open(db.join("events.db"))
        .unwrap()
        .execute_batch("DELETE FROM events WHERE revision = 1")
        .unwrap();
    fails(arguments!("verify"; db), 3, "revision 2 of stream s").await;
    let start = ["--insecure", "--node-port", "0", "--db"].map(OsStr::new);
    let [a, b, c, d] = start;
    fails([a, b, c, d, db.as_ref()], 1, "the database is damaged").await;
}

#[tokio::test]
async fn a_backup_of_a_busy_server_is_complete() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (db, file) = (at("db"), at("backup.db"));
    let server = serve(&db, 100).await;
    let mut client = connect(&server.address).await;
    let busy = tokio::spawn(async move {
        while append(&mut client, "s", any(), vec![event(&new_id(), "busy")])
            .await
            .is_ok()
        {}
    });
    for _ in 0..3 {
        succeeds(arguments!("backup", file, "--replace"; db)).await;
    }
    server.kill().await;
    busy.await.unwrap();

    let names: Vec<_> = fs::read_dir(folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(
        names.len(),
        2,
        "more files than the backup remain: {names:?}"
    );
    let restored = at("restored");
    succeeds(arguments!("restore", file; restored)).await;
    succeeds(arguments!("verify"; restored)).await;
    let (before, after) = (data(&db).await, data(&restored).await);
    assert!(after.len() >= 100 && before.starts_with(&after));
}

#[tokio::test]
async fn a_backup_overwrites_nothing_unless_told() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("precious"));
    serve(&db, 1).await.kill().await;
    fs::write(&file, "precious").unwrap();
    fails(
        arguments!("backup", file; db),
        1,
        "precious was not written",
    )
    .await;
    assert_eq!(fs::read(&file).unwrap(), b"precious");
    succeeds(arguments!("backup", file, "--replace"; db)).await;
    assert!(fs::read(&file).unwrap().starts_with(b"SQLite format 3"));
    fails(arguments!("backup", file; folder.path()), 1, "events.db").await;
}

#[tokio::test]
async fn restore_refuses_a_folder_with_a_server_or_with_data() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("backup.db"));
    let server = serve(&db, 2).await;
    succeeds(arguments!("backup", file; db)).await;
    fails(
        arguments!("restore", file, "--replace"; db),
        1,
        "in use by another server",
    )
    .await;
    let mut client = connect(&server.address).await;
    append(&mut client, "s", any(), vec![event(&new_id(), "later")])
        .await
        .unwrap();
    server.kill().await;
    fails(arguments!("restore", file; db), 1, "`--replace`").await;
    assert_eq!(data(&db).await.len(), 3);
    succeeds(arguments!("restore", file, "--replace"; db)).await;
    assert_eq!(data(&db).await, [b"0", b"1"]);
}

#[tokio::test]
async fn restore_refuses_a_damaged_backup() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("backup.db"));
    serve(&db, 3).await.kill().await;
    succeeds(arguments!("backup", file; db)).await;
    Connection::open(&file)
        .unwrap()
        .execute_batch("DELETE FROM events WHERE revision = 1")
        .unwrap();
    let restore = arguments!("restore", file, "--replace"; db);
    fails(restore, 1, "the database is damaged").await;
    fs::write(&file, "no database").unwrap();
    fails(restore, 1, "the database is damaged").await;
    assert_eq!(data(&db).await.len(), 3);
}

#[tokio::test]
async fn damaged_derived_data_does_not_prevent_a_restore() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("backup.db"));
    serve(&db, 3).await.kill().await;
    succeeds(arguments!("backup", file; db)).await;
    let damage = "UPDATE streams SET has_metadata = 1, max_count = 1;
        INSERT INTO links (stream, revision, position, target, target_revision, created)
            VALUES (1, 9, 6400, 7, 0, 0)";
    Connection::open(&file)
        .unwrap()
        .execute_batch(damage)
        .unwrap();
    let restored = succeeds(arguments!("restore", file, "--replace"; db)).await;
    for printed in ["the limits of stream s differ", "link 9 of stream 1"] {
        assert!(restored.contains(printed), "{restored}");
    }
    assert_eq!(data(&db).await, [b"0", b"1", b"2"]);
    let server = Process::start(&db).await;
    let seen = read_stream(&mut connect(&server.address).await, "s").await;
    assert_eq!(seen.len(), 3, "it is limited as its metadata says: not");
    server.kill().await;
}

#[tokio::test]
async fn a_backup_of_an_older_version_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("backup.db"));
    Connection::open(&file)
        .unwrap()
        .execute_batch(include_str!("../fixtures/version-0.sql"))
        .unwrap();
    succeeds(arguments!("restore", file; db)).await;
    succeeds(arguments!("verify"; db)).await;
    assert_eq!(data(&db).await, [b"one", b"two"]);
}

/// A file is on disk before it is renamed, and its new name is on disk after that.
#[tokio::test]
async fn a_backup_and_a_restore_are_on_disk_when_they_end() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let (db, file, restored) = (at("db"), at("backup.db"), at("restored"));
    serve(&db, 3).await.kill().await;
    for arguments in [
        arguments!("backup", file; db),
        arguments!("restore", file; restored),
    ] {
        let trace = at("trace");
        let mut strace = Command::new("strace");
        strace.args([
            "-f",
            "-yy",
            "-e",
            "trace=fsync,rename,renameat,renameat2",
            "-o",
        ]);
        strace.arg(&trace).arg(EXECUTABLE).args(arguments);
        let output = finish(&mut strace).await;
        assert!(output.status.success(), "{}", printed(&output));
        let calls = fs::read_to_string(&trace).unwrap();
        let place = |is_it: &dyn Fn(&str) -> bool| calls.lines().position(is_it);
        let content = place(&|call| call.contains("fsync(") && call.contains("/.copy-"));
        let name = place(&|call| call.contains("rename") && call.ends_with("= 0"));
        let entry = calls
            .lines()
            .skip(name.unwrap())
            .any(|call| call.contains("fsync(") && !call.contains(".copy-"));
        assert!(content.unwrap() < name.unwrap() && entry, "{calls}");
    }
}

/// System calls that rename or flush files. Some do not exist on every machine.
const STEPS: [&str; 7] = [
    "?mkdir",
    "?unlink",
    "unlinkat",
    "?rmdir",
    "?rename",
    "renameat2",
    "fsync",
];

/// Runs a subcommand and kills it when it is about to make this system call for the `number`th time. Returns `false`
/// if it ended before that.
async fn is_interrupted<const N: usize>(step: &str, number: usize, arguments: [&OsStr; N]) -> bool {
    let mut strace = Command::new("strace");
    let inject = format!("inject={step}:signal=SIGKILL:when={number}");
    strace.args([
        "-f",
        "-o",
        "/dev/null",
        "-e",
        &format!("trace={step}"),
        "-e",
    ]);
    strace.arg(inject).arg(EXECUTABLE).args(arguments);
    let output = finish(&mut strace).await;
    let is_interrupted = output.status.signal() == Some(9);
    assert!(
        is_interrupted || output.status.success(),
        "{}",
        printed(&output)
    );
    is_interrupted
}

/// The leftovers of unfinished copies.
fn copies(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.starts_with(".copy-")).collect()
}

/// A folder with three events, the last of which are only in the write-ahead log, and the backup of another folder.
async fn database_and_backup(folder: &Path) -> (PathBuf, PathBuf) {
    let at = |name: &str| folder.join(name);
    let (db, other, file) = (at("db"), at("other"), at("backup.db"));
    serve(&other, 1).await.kill().await;
    succeeds(arguments!("backup", file; other)).await;
    serve(&db, 3).await.kill().await;
    assert!(db.join("events.db-wal").metadata().unwrap().len() > 0);
    (db, file)
}

fn copy_of(db: &Path) -> TempDir {
    let copy = tempfile::tempdir().unwrap();
    for name in ["events.db", "events.db-wal"] {
        fs::copy(db.join(name), copy.path().join(name)).unwrap();
    }
    copy
}

#[tokio::test]
async fn an_interrupted_restore_leaves_a_whole_database_and_can_be_run_again() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = database_and_backup(folder.path()).await;
    let (old, new) = ([&b"0"[..], b"1", b"2"], [&b"0"[..]]);
    let mut cuts = 0;
    for step in STEPS {
        for number in 1.. {
            let started = copy_of(&db);
            let again = copy_of(&db);
            let [started, again] = [started.path(), again.path()];
            if !is_interrupted(
                step,
                number,
                arguments!("restore", file, "--replace"; started),
            )
            .await
            {
                break;
            }
            cuts += 1;
            let found = data(started).await;
            assert!(found == old || found == new, "{step} {number}: {found:?}");
            succeeds(arguments!("verify"; started)).await;
            assert_eq!(copies(started), [""; 0], "after a start");

            assert!(
                is_interrupted(
                    step,
                    number,
                    arguments!("restore", file, "--replace"; again)
                )
                .await
            );
            succeeds(arguments!("restore", file, "--replace"; again)).await;
            assert_eq!(copies(again), [""; 0], "after another restore");
            assert_eq!(data(again).await, new, "{step} {number}");
        }
    }
    assert!(cuts > STEPS.len(), "{cuts}");
}

#[tokio::test]
async fn an_interrupted_restore_into_a_new_folder_leaves_a_whole_database_or_none() {
    let folder = tempfile::tempdir().unwrap();
    let (_, file) = database_and_backup(folder.path()).await;
    for step in STEPS {
        for number in 1.. {
            let folder = tempfile::tempdir().unwrap();
            let db = folder.path();
            if !is_interrupted(step, number, arguments!("restore", file; db)).await {
                break;
            }
            if !db.join("events.db").exists() {
                succeeds(arguments!("restore", file; db)).await;
            }
            assert_eq!(data(db).await, [b"0"], "{step} {number}");
            assert_eq!(copies(db), [""; 0]);
        }
    }
}

#[tokio::test]
async fn the_next_backup_removes_the_leftovers_of_an_interrupted_one() {
    let folder = tempfile::tempdir().unwrap();
    let (db, file) = (folder.path().join("db"), folder.path().join("backup.db"));
    serve(&db, 3).await.kill().await;
    assert!(is_interrupted("fsync", 1, arguments!("backup", file; db)).await);
    assert!(!copies(folder.path()).is_empty() && !file.exists());
    succeeds(arguments!("backup", file; db)).await;
    assert_eq!(copies(folder.path()), [""; 0]);
}

#[tokio::test]
async fn stats_count() {
    let folder = tempfile::tempdir().unwrap();
    let db = folder.path();
    let server = serve(db, 10).await;
    let stats = succeeds(arguments!("stats"; db)).await;
    let stats: serde_json::Value = serde_json::from_str(&stats).unwrap();
    for (name, value) in [
        ("streams", 1),
        ("events", 10),
        ("event_bytes", 10),
        ("head_position", 640),
        ("tombstoned_streams", 0),
    ] {
        assert_eq!(stats[name], value, "{name}");
    }
    assert!(stats["oldest_created"].as_i64() <= stats["newest_created"].as_i64());
    assert!(stats["write_ahead_log_bytes"].as_u64() > Some(0));
    server.kill().await;
}
