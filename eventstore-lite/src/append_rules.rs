//! Decides whether a change to a stream is made: expected revision × state of the stream × ids of the events →
//! decision. Pure; earlier events are queried through [`History`].

use uuid::Uuid;

/// The state of the stream that the writer expects.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Any,
    NoStream,
    StreamExists,
    Revision(u64),
}

/// The state of a stream that the rules need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamState {
    /// The revision of the last event ever written, even if it is hidden.
    pub(crate) last: Option<u64>,
    pub(crate) tombstoned: bool,
    pub(crate) soft_deleted: bool,
    pub(crate) has_metadata: bool,
}

/// The earlier events of the stream.
pub(crate) trait History {
    /// Why a query failed.
    type Error;
    /// The last revision with this id, if the id is remembered. Old ids are forgotten.
    fn revision_of(&self, id: Uuid) -> Option<u64>;
    /// The id of the event at a revision.
    fn id_at(&self, revision: u64) -> Result<Option<Uuid>, Self::Error>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Make the change.
    Write,
    /// All events were written before, the last of them at this revision.
    AlreadyWritten(u64),
    WrongRevision,
    StreamDeleted,
}

/// Decides on a change that would write events with these ids. A deletion has no ids.
pub(crate) fn decide<H: History>(
    expected: Expected,
    stream: &StreamState,
    ids: &[Uuid],
    history: &H,
) -> Result<Decision, H::Error> {
    if stream.tombstoned {
        return Ok(Decision::StreamDeleted);
    }
    match expected {
        Expected::StreamExists if stream.soft_deleted => Ok(Decision::StreamDeleted),
        Expected::StreamExists if stream.last.is_none() && !stream.has_metadata => {
            Ok(Decision::WrongRevision)
        }
        Expected::Any | Expected::StreamExists => Ok(decide_by_ids(ids, history)),
        Expected::NoStream => decide_at(0, stream, ids, history, stream.soft_deleted),
        Expected::Revision(revision) => {
            decide_at(revision.saturating_add(1), stream, ids, history, false)
        }
    }
}

/// Without an expected revision, only the ids distinguish a retry from a new append.
fn decide_by_ids<H: History>(ids: &[Uuid], history: &H) -> Decision {
    let mut found = ids.iter().map(|id| history.revision_of(*id));
    let Some(Some(mut last)) = found.next() else {
        return Decision::Write;
    };
    for revision in found {
        let Some(revision) = revision else {
            return Decision::WrongRevision;
        };
        last = revision;
    }
    Decision::AlreadyWritten(last)
}

/// Decides on events that are to get the revisions from `first` on. Before the end of the stream they must be a retry
/// of the events there; otherwise the revision is wrong. If `recreates`, the stream was deleted, and may also be
/// recreated at its end.
fn decide_at<H: History>(
    first: u64,
    stream: &StreamState,
    ids: &[Uuid],
    history: &H,
    recreates: bool,
) -> Result<Decision, H::Error> {
    let end = stream.last.map_or(0, |last| last + 1);
    if first >= end {
        return Ok(if first == end {
            Decision::Write
        } else {
            Decision::WrongRevision
        });
    }
    let mut matched = None;
    for (revision, id) in (first..).zip(ids) {
        if history.id_at(revision)? != Some(*id) {
            let begins_again = recreates && matched.is_none();
            return Ok(if begins_again {
                Decision::Write
            } else {
                Decision::WrongRevision
            });
        }
        matched = Some(revision);
    }
    Ok(match matched {
        Some(revision) => Decision::AlreadyWritten(revision),
        None if recreates => Decision::Write,
        None => Decision::WrongRevision,
    })
}
