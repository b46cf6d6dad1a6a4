//! The parts of the documents that are generated from the code and the frozen examples. The tests compare them.
//!
//! `WRITE_DOCS=1 cargo test -p users-service --test it documents` writes them anew.

use crate::architecture::code;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use users_service::{contracts, problem_types};
use web::ProblemType;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Fails unless the document has this text between its two marks, or puts it there if `WRITE_DOCS` is set.
pub(crate) fn check(document: &str, generated: &str) {
    let (begin, end) = ("<!-- generated: begin -->\n", "<!-- generated: end -->");
    let path = root().join("docs").join(document);
    let text = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = text.split_once(begin).unwrap();
    let (there, after) = rest.split_once(end).unwrap();
    if std::env::var_os("WRITE_DOCS").is_some() {
        std::fs::write(&path, format!("{before}{begin}{generated}{end}{after}")).unwrap();
    } else {
        assert_eq!(
            there, generated,
            "{document} is not as generated: see documents.rs"
        );
    }
}

#[test]
fn the_api_document_lists_every_problem_type() {
    let all = web::problem_types::ALL.iter().chain(problem_types::ALL);
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|kind| kind.status);
    let mut table = "| type | status | meaning |\n|---|---|---|\n".to_owned();
    for ProblemType { uri, status, title } in all {
        writeln!(table, "| `{uri}` | {} | {title} |", status.as_u16()).unwrap();
    }
    check("API.md", &table);
}

#[test]
fn the_contracts_in_docs_are_as_generated() {
    let docs = root().join("docs");
    let schemas = contracts::schemas().into_iter().map(|(name, schema)| {
        let path = docs.join(format!("schemas/{name}.json"));
        (path, contracts::text(&schema))
    });
    let document = (
        docs.join("asyncapi.json"),
        contracts::text(&contracts::asyncapi()),
    );
    let generated: BTreeMap<_, _> = schemas.chain([document]).collect();
    if std::env::var_os("WRITE_DOCS").is_some() {
        for (path, text) in &generated {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
    }
    for (path, text) in &generated {
        let there = std::fs::read_to_string(path).unwrap_or_default();
        assert_eq!(&there, text, "{} is not as generated", path.display());
    }
    for entry in std::fs::read_dir(docs.join("schemas")).unwrap() {
        let path = entry.unwrap().path();
        assert!(generated.contains_key(&path), "{path:?} describes nothing");
    }
}

/// The accounts of the broker, and who uses each.
const ACCOUNTS: [(&str, &str); 7] = [
    ("administrator", "operators: the management UI"),
    (
        "users-service",
        "`users-service serve`: all roles in one process",
    ),
    (
        "users-command-api",
        "`command-api` and `api`, also as a client of `uuids`",
    ),
    ("users-publisher", "`publisher`"),
    ("users-projector", "`projector`"),
    ("uuids-service", "`uuids-service serve`"),
    (
        "outside",
        "a program of another team, which reads events; copy it for each team, with the team's name as the prefix",
    ),
];

#[test]
fn the_document_of_access_lists_the_accounts_of_the_broker() {
    let file = root().join("deploy/rabbitmq/definitions.json");
    let definitions: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let list = |name: &str| definitions[name].as_array().unwrap().clone();
    let permissions = list("permissions");
    assert_eq!(list("users").len(), ACCOUNTS.len());
    assert_eq!(permissions.len(), ACCOUNTS.len());
    let mut table =
        "| account | used by | configure | write | read |\n|---|---|---|---|---|\n".to_owned();
    for (account, user) in ACCOUNTS {
        let of_account = permissions.iter().find(|one| one["user"] == account);
        let of_account = of_account.unwrap();
        let shown = ["configure", "write", "read"].map(|permission| {
            let pattern = of_account[permission].as_str().unwrap();
            // A bar would end the cell of the table.
            format!("`{}`", pattern.replace('|', "\\|"))
        });
        writeln!(table, "| `{account}` | {user} | {} |", shown.join(" | ")).unwrap();
    }
    check("ACCESS.md", &table);
}

/// The frozen examples of stored events: `{"stream"?, "type", "data", "metadata"?}`. A file without these members is the data
/// of the type that its name says.
fn examples() -> Vec<Value> {
    let mut files: Vec<PathBuf> = Vec::new();
    for service in ["users-service", "uuids-service"] {
        let folder = root().join(service).join("tests/fixtures/events");
        let entries = std::fs::read_dir(folder).unwrap();
        files.extend(entries.map(|entry| entry.unwrap().path()));
    }
    files.sort_by_key(|path| path.file_name().map(ToOwned::to_owned));
    let read = |path: &PathBuf| {
        let text = std::fs::read_to_string(path).unwrap();
        let mut example: Value = serde_json::from_str(&text).unwrap();
        // Whether a map keeps the order of the file depends on how the crate was built.
        example.sort_all_objects();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let Some(event_type) = example["type"].as_str() else {
            return json!({"type": name, "data": example});
        };
        assert!(name.starts_with(event_type), "{name}");
        example
    };
    files.iter().map(read).collect()
}

#[test]
fn the_events_document_shows_every_frozen_example() {
    let mut text = String::new();
    for example in examples() {
        let place = example["stream"]
            .as_str()
            .map(|stream| format!(" in `{stream}`"));
        let event_type = example["type"].as_str().unwrap();
        writeln!(text, "`{event_type}`{}\n", place.unwrap_or_default()).unwrap();
        writeln!(text, "    data      {}", example["data"]).unwrap();
        if let Some(metadata) = example.get("metadata") {
            writeln!(text, "    metadata  {metadata}").unwrap();
        }
        text.push('\n');
    }
    check("EVENTS.md", &text);
}

/// The stored names of events in the code of the services, such as `UserCreated.v1`.
fn stored_names() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut folders = ["users-service/src", "uuids-service/src"]
        .map(|folder| root().join(folder))
        .to_vec();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_some_and(|name| name != "tests.rs") {
                let text = std::fs::read_to_string(&path).unwrap();
                let code = code(&text);
                let literals = code.split('"').skip(1).step_by(2);
                names.extend(
                    literals
                        .filter(|text| is_stored_name(text))
                        .map(str::to_owned),
                );
            }
        }
    }
    names
}

fn is_stored_name(text: &str) -> bool {
    let Some((name, version)) = text.split_once(".v") else {
        return false;
    };
    let is_number = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    let is_name = name.bytes().all(|byte| byte.is_ascii_alphabetic());
    name.starts_with(|first: char| first.is_ascii_uppercase()) && is_name && is_number
}

#[test]
fn every_stored_event_has_a_frozen_example_for_each_version() {
    let name = |example: Value| example["type"].as_str().unwrap().to_owned();
    let shown: BTreeSet<_> = examples().into_iter().map(name).collect();
    assert_eq!(shown, stored_names());
    assert!(
        shown.contains("UserCreated.v1"),
        "the search finds something"
    );
}
