//! Whether a change of a stream is made: expected revision × state of the stream × ids of the events →
//! decision. Pure; what was written under which id is asked through [`History`].

use uuid::Uuid;

/// What the writer says the stream must be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expected {
    Any,
    NoStream,
    StreamExists,
    Revision(u64),
}

/// What the rules must know of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct StreamState {
    /// The revision of the last event ever written, also when it cannot be seen any more.
    pub(crate) last: Option<u64>,
    pub(crate) tombstoned: bool,
    pub(crate) soft_deleted: bool,
    pub(crate) has_metadata: bool,
}

/// What was written to the stream before.
pub(crate) trait History {
    /// Why the question could not be answered.
    type Error;
    /// The last revision with this id, if its append is remembered: nobody remembers all ids for ever.
    fn revision_of(&self, id: Uuid) -> Option<u64>;
    /// The id of the event at a revision.
    fn id_at(&self, revision: u64) -> Result<Option<Uuid>, Self::Error>;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// Make the change.
    Write,
    /// All of it was written before, the last of it at this revision.
    AlreadyWritten(u64),
    WrongRevision,
    StreamDeleted,
}

/// Decides on a change that would write events with these ids (none for a deletion).
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

/// Without an expected revision only the ids tell a retry from a new append.
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

/// The events are to be numbered from `first` on. Where that is not the stream's end, they are either what
/// was written there, or wrong; `recreates`: a deleted stream may also be begun again, at its end.
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
