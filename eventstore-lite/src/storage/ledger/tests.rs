//! Retries of appends: which are recognised, and for how long.

use tempfile::TempDir;

use super::*;
use crate::append_rules::Expected;
use crate::storage::schema;

/// How many ids the ledgers of these tests remember.
const REMEMBERED: usize = 4;

fn open(folder: &TempDir) -> Ledger {
    let connection = schema::open_writer(folder.path(), false).unwrap();
    Ledger::remembering(connection, REMEMBERED).unwrap()
}

fn write(expected: Expected, id: u128) -> Write {
    let event = NewEvent {
        id: Uuid::from_u128(id),
        event_type: "happened".to_owned(),
        is_json: false,
        data: Bytes::new(),
        metadata: Bytes::new(),
    };
    Write {
        stream: StreamName::stored("s"),
        expected,
        change: Change::Append(vec![event]),
        deadline: None,
    }
}

/// Appends in a separate transaction, and returns the revision.
fn append(ledger: &mut Ledger, expected: Expected, id: u128) -> Option<u64> {
    ledger.begin().unwrap();
    let outcome = ledger.apply(&write(expected, id)).unwrap();
    ledger.commit().unwrap();
    let Outcome::Written { revision, .. } = outcome else {
        panic!("{outcome:?}");
    };
    revision
}

#[test]
fn a_retry_at_a_revision_is_recognised_for_ever_and_at_any_revision_among_the_last_ids() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    append(&mut ledger, Expected::NoStream, 0);
    for id in 1..6 {
        append(&mut ledger, Expected::Revision(id - 1), u128::from(id));
    }
    for _restart in 0..2 {
        assert_eq!(append(&mut ledger, Expected::NoStream, 0), Some(0));
        assert_eq!(append(&mut ledger, Expected::Revision(0), 1), Some(1));
        for id in 2..6 {
            let revision = u64::try_from(id).unwrap();
            assert_eq!(append(&mut ledger, Expected::Any, id), Some(revision));
            assert_eq!(
                append(&mut ledger, Expected::StreamExists, id),
                Some(revision)
            );
        }
        ledger.close().unwrap();
        ledger = open(&folder);
    }
    // The memory is bounded. This id is older than the last four, so the event is written again.
    assert_eq!(append(&mut ledger, Expected::Any, 1), Some(6));
}

#[test]
fn a_rolled_back_append_that_is_sent_again_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let mut ledger = open(&folder);
    append(&mut ledger, Expected::Any, 1);
    ledger.begin().unwrap();
    ledger.apply(&write(Expected::Any, 2)).unwrap();
    ledger.rollback().unwrap();
    assert_eq!(append(&mut ledger, Expected::Any, 1), Some(0));
    assert_eq!(append(&mut ledger, Expected::Any, 3), Some(1));
    assert_eq!(append(&mut ledger, Expected::Any, 2), Some(2));
}
