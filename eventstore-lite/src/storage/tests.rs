//! Compares random changes of a few streams, with restarts in between, with a model that consists of lists.

use std::collections::HashMap;

use proptest::prelude::*;
use tempfile::TempDir;
use uuid::Uuid;

use super::*;
use crate::event::Direction;

const STREAMS: usize = 3;

/// Small numbers, so that ids and revisions collide often.
#[derive(Clone, Debug)]
enum Step {
    Append(usize, Expected, Vec<u8>),
    Delete(usize, Expected),
    Tombstone(usize, Expected),
    Restart,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let expected = prop_oneof![
        3 => Just(Expected::Any),
        2 => Just(Expected::NoStream),
        1 => Just(Expected::StreamExists),
        3 => (0..6_u64).prop_map(Expected::Revision),
    ];
    let stream = 0..STREAMS;
    let ids = prop::collection::vec(0..8_u8, 0..4);
    let step = prop_oneof![
        12 => (stream.clone(), expected.clone(), ids).prop_map(|(s, e, i)| Step::Append(s, e, i)),
        3 => (stream.clone(), expected.clone()).prop_map(|(s, e)| Step::Delete(s, e)),
        1 => (stream, expected).prop_map(|(s, e)| Step::Tombstone(s, e)),
        1 => Just(Step::Restart),
    ];
    prop::collection::vec(step, 1..40)
}

/// A stream as a list of ids.
#[derive(Clone, Debug, Default)]
struct Model {
    ids: Vec<u8>,
    /// How many of the first events are hidden, if the stream is not deleted.
    hidden: usize,
    deleted: bool,
    tombstoned: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    New,
    /// Written before; the last event has this revision.
    Again(usize),
    Wrong,
    Gone,
}

impl Model {
    fn verdict(
        &self,
        expected: Expected,
        ids: &[u8],
        is_remembered: impl Fn(u8) -> bool,
    ) -> Verdict {
        let start = match expected {
            _ if self.tombstoned => return Verdict::Gone,
            Expected::StreamExists if self.deleted => return Verdict::Gone,
            Expected::StreamExists if self.ids.is_empty() => return Verdict::Wrong,
            Expected::Any | Expected::StreamExists => {
                return self.verdict_by_ids(ids, is_remembered);
            }
            Expected::NoStream => 0,
            Expected::Revision(revision) => usize::try_from(revision).unwrap() + 1,
        };
        let Some(tail) = self.ids.get(start..) else {
            return Verdict::Wrong;
        };
        let recreates =
            expected == Expected::NoStream && self.deleted && ids.first() != tail.first();
        match (tail, ids) {
            ([], _) => Verdict::New,
            (_, [_, ..]) if tail.starts_with(ids) => Verdict::Again(start + ids.len() - 1),
            _ if recreates => Verdict::New,
            _ => Verdict::Wrong,
        }
    }

    /// `is_remembered` tells whether an id was first written to this stream.
    fn verdict_by_ids(&self, ids: &[u8], is_remembered: impl Fn(u8) -> bool) -> Verdict {
        let known: Vec<_> = ids
            .iter()
            .map(|id| self.ids.iter().rposition(|other| other == id))
            .map(|found| found.filter(|number| is_remembered(self.ids[*number])))
            .collect();
        match known[..] {
            [] | [None, ..] => Verdict::New,
            [.., Some(last)] if known.iter().all(Option::is_some) => Verdict::Again(last),
            _ => Verdict::Wrong,
        }
    }

    /// Applies a step, and returns the outcome that the storage must give. The position is checked in [`check`].
    fn apply(&mut self, step: &Step, is_remembered: impl Fn(u8) -> bool) -> Verdict {
        let (expected, ids) = match step {
            Step::Append(_, expected, ids) => (*expected, &ids[..]),
            Step::Delete(_, expected) | Step::Tombstone(_, expected) => (*expected, &[][..]),
            Step::Restart => unreachable!("a restart changes no stream"),
        };
        let verdict = self.verdict(expected, ids, is_remembered);
        match step {
            _ if verdict != Verdict::New => return verdict,
            Step::Append(..) => {
                if std::mem::take(&mut self.deleted) {
                    self.hidden = self.ids.len();
                }
                self.ids.extend(ids);
            }
            Step::Delete(..) if self.ids.is_empty() => return Verdict::Wrong,
            Step::Delete(..) => self.deleted = true,
            Step::Tombstone(..) => self.tombstoned = true,
            Step::Restart => {}
        }
        verdict
    }

    fn visible(&self) -> Option<Vec<(u64, u8)>> {
        let numbered = self.ids.iter().copied().enumerate().skip(self.hidden);
        let visible = numbered
            .map(|(revision, id)| (revision as u64, id))
            .collect();
        (!self.ids.is_empty() && !self.deleted).then_some(visible)
    }
}

fn id(number: u8) -> Uuid {
    Uuid::from_u128(u128::from(number))
}

fn write_of(step: &Step) -> Write {
    let (stream, expected, change) = match step {
        Step::Append(stream, expected, ids) => (
            stream,
            expected,
            Change::Append(ids.iter().copied().map(new_event).collect()),
        ),
        Step::Delete(stream, expected) => (stream, expected, Change::SoftDelete),
        Step::Tombstone(stream, expected) => (stream, expected, Change::Tombstone),
        Step::Restart => unreachable!("a restart is not a change"),
    };
    Write {
        stream: name(*stream),
        expected: *expected,
        change,
        deadline: None,
    }
}

fn new_event(number: u8) -> NewEvent {
    let event_type = "happened".to_owned();
    NewEvent {
        id: id(number),
        event_type,
        is_json: true,
        data: "{}".into(),
        metadata: "".into(),
    }
}

fn name(stream: usize) -> StreamName {
    StreamName::stored(&format!("s{stream}"))
}

fn open(folder: &TempDir) -> Storage {
    let mut config = Config::new(folder.path());
    config.unsafe_disable_flush_to_disk = true;
    Storage::open(&config).unwrap()
}

async fn visible(storage: &Storage, stream: usize) -> Option<Vec<(u64, u8)>> {
    let read = StreamRead {
        stream: name(stream),
        direction: Direction::Forwards,
        from: 0,
        limit: u64::MAX,
        resolve_links: false,
    };
    let mut read = read;
    let mut found = Vec::new();
    loop {
        let StreamPage::Events { events, next, .. } =
            storage.read_stream(read.clone()).await.unwrap()
        else {
            return None;
        };
        let events = events.into_iter().map(|resolved| resolved.event.unwrap());
        found.extend(events.map(|event| (event.revision, event.id.as_bytes()[15])));
        let Some(next) = next else { return Some(found) };
        read.from = next;
    }
}

async fn run(steps: &[Step]) -> Result<(), TestCaseError> {
    let folder = tempfile::tempdir().unwrap();
    let mut storage = open(&folder);
    let mut models: [Model; STREAMS] = Default::default();
    let mut head = Position::START;
    let mut firsts = HashMap::<u8, usize>::new();
    for step in steps {
        let stream = match step {
            Step::Append(stream, ..) | Step::Delete(stream, _) | Step::Tombstone(stream, _) => {
                *stream
            }
            Step::Restart => {
                storage.close().await;
                storage = open(&folder);
                continue;
            }
        };
        let before = models[stream].clone();
        let verdict = models[stream].apply(step, |id| firsts.get(&id) == Some(&stream));
        if let (Verdict::New, Step::Append(_, _, ids)) = (verdict, step) {
            for id in ids {
                firsts.entry(*id).or_insert(stream);
            }
        }
        let outcome = storage.write(write_of(step)).await.unwrap();
        check(
            step,
            (&before, &models[stream]),
            verdict,
            &outcome,
            &mut head,
        )?;
        if !models[stream].tombstoned {
            prop_assert_eq!(visible(&storage, stream).await, models[stream].visible());
        }
    }
    storage.close().await;
    prop_assert_eq!(verify(folder.path()).unwrap(), Vec::<String>::new());
    Ok(())
}

/// A new event has a position after all earlier ones. A retry returns the old position, if its event is visible.
fn check(
    step: &Step,
    (before, after): (&Model, &Model),
    verdict: Verdict,
    outcome: &Outcome,
    head: &mut Position,
) -> Result<(), TestCaseError> {
    let last = |model: &Model| model.ids.len().checked_sub(1).map(|last| last as u64);
    match (verdict, outcome) {
        (
            Verdict::New,
            Outcome::Written {
                revision,
                position: Some(position),
            },
        ) => {
            prop_assert!(*position > *head);
            *head = *position;
            prop_assert_eq!(
                *revision,
                if matches!(step, Step::Append(..)) {
                    last(after)
                } else {
                    None
                }
            );
        }
        (Verdict::Again(number), Outcome::Written { revision, position }) => {
            prop_assert_eq!(*revision, Some(number as u64));
            prop_assert_eq!(
                position.is_some(),
                !before.deleted && number >= before.hidden
            );
        }
        (Verdict::Wrong, Outcome::WrongRevision { current }) => {
            prop_assert_eq!(*current, last(before));
        }
        (Verdict::Gone, Outcome::StreamDeleted(_)) => {}
        (verdict, outcome) => prop_assert!(false, "expected {verdict:?}, found {outcome:?}"),
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn streams_behave_like_lists(steps in steps()) {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(run(&steps))?;
    }
}
