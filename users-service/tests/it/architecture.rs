//! The borders between the layers, checked by reading the sources.

use std::path::{Path, PathBuf};

/// A layer, and the words that its code must not contain.
struct Border {
    layer: &'static str,
    forbidden: &'static [&'static str],
}

/// What a step function must not know.
const STEP_FUNCTION: &[&str] = &[
    "serde",
    "tokio",
    "actix",
    "sqlx",
    "event_streams",
    "uuid",
    "Uuid",
    "async ",
    "std::time",
    "rand::",
];

const BORDERS: [Border; 7] = [
    Border {
        layer: "domain",
        forbidden: &[
            "serde",
            "tokio",
            "actix",
            "sqlx",
            "event_streams",
            "eventstore",
            "uuid",
            "Uuid",
            "lapin",
            "messaging",
            "std::time",
            "rand",
            "stored_event",
            "crate::command",
            "crate::query",
            "crate::privacy",
            "subject_keys",
            "http",
        ],
    },
    Border {
        layer: "command/attempt",
        forbidden: STEP_FUNCTION,
    },
    Border {
        layer: "sweeper/sweep",
        forbidden: STEP_FUNCTION,
    },
    Border {
        layer: "command/reservation",
        forbidden: STEP_FUNCTION,
    },
    Border {
        layer: "stored_event",
        forbidden: &[
            "tokio",
            "actix",
            "sqlx",
            "async ",
            "crate::command",
            "crate::query",
        ],
    },
    Border {
        layer: "privacy",
        forbidden: &[
            "event_streams",
            "crate::command",
            "crate::eraser",
            "crate::erasure",
            "crate::integration",
            "crate::projection",
            "crate::query",
            "crate::stored_event",
        ],
    },
    Border {
        layer: "privacy/cipher",
        forbidden: &[
            "tokio",
            "actix",
            "sqlx",
            "event_streams",
            "async ",
            "crate::command",
        ],
    },
];

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// The files of a layer: `layer.rs` and all files under `layer/`, without tests.
fn files(layer: &str) -> Vec<PathBuf> {
    let mut files = vec![source().join(format!("{layer}.rs"))];
    let mut folders = vec![source().join(layer)];
    while let Some(folder) = folders.pop() {
        let Ok(entries) = std::fs::read_dir(folder) else {
            continue;
        };
        for entry in entries {
            let path = entry.unwrap().path();
            match path.file_name().and_then(|name| name.to_str()) {
                Some("tests.rs" | "tests" | "explorer.rs" | "explorer") => {}
                _ if path.is_dir() => folders.push(path),
                _ => files.push(path),
            }
        }
    }
    files
}

/// The code without comments and tests.
pub(crate) fn code(text: &str) -> String {
    let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
    let code = text.lines().map(|line| line.split("//").next().unwrap());
    code.collect::<Vec<_>>().join("\n")
}

fn mentions<'a>(code: &str, forbidden: &[&'a str]) -> Vec<&'a str> {
    let mentioned = forbidden.iter().filter(|word| code.contains(**word));
    mentioned.copied().collect()
}

#[test]
fn no_layer_mentions_what_is_forbidden_to_it() {
    for border in BORDERS {
        let files = files(border.layer);
        for file in files {
            let code = code(&std::fs::read_to_string(&file).unwrap());
            let mentioned = mentions(&code, border.forbidden);
            assert!(
                mentioned.is_empty(),
                "{} mentions {mentioned:?}",
                file.display()
            );
        }
    }
}

#[test]
fn a_forbidden_word_is_found() {
    let careless = "use serde::Serialize; // tokio\n";
    assert_eq!(mentions(&code(careless), BORDERS[0].forbidden), ["serde"]);
    assert!(
        files("domain").len() > 5,
        "the files of the domain were not found"
    );
    assert_eq!(files("command/reservation").len(), 1, "tests are omitted");
}

#[test]
fn only_the_composition_root_connects() {
    let connects = |file: &PathBuf| {
        let code = code(&std::fs::read_to_string(file).unwrap());
        !mentions(
            &code,
            &[
                "EventStreams::connect",
                "Broker::connect",
                "SubjectKeys::open(",
            ],
        )
        .is_empty()
    };
    let layers = [
        "command",
        "domain",
        "eraser",
        "erasure",
        "ids",
        "integration",
        "privacy",
        "projection",
        "query",
        "read_model",
        "stored_event",
        "sweeper",
    ];
    let there = |layer: &&&str| source().join(format!("{layer}.rs")).exists();
    for layer in layers.iter().filter(there) {
        let connecting: Vec<_> = files(layer).into_iter().filter(connects).collect();
        assert!(connecting.is_empty(), "{connecting:?}");
    }
    assert!(files("startup").iter().any(connects));
}
