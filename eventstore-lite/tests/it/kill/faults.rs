//! Finds faults of a log, given the acknowledged events. As a control, each planted kind of fault must be found.

use std::collections::HashMap;

use eventstore_lite::wire::streams::read_resp::read_event::RecordedEvent;

use super::load::Batch;
use crate::support::id_of;

pub(super) fn faults(acknowledged: &[Batch], log: &[RecordedEvent]) -> Vec<String> {
    let mut faults = Vec::new();
    let stored: HashMap<_, _> = log.iter().map(|event| (id_of(event), event)).collect();
    if stored.len() != log.len() {
        faults.push("an event exists twice".to_owned());
    }
    let rise = |pair: &[RecordedEvent]| pair[0].commit_position < pair[1].commit_position;
    if !log.windows(2).all(rise) {
        faults.push("positions do not rise".to_owned());
    }
    for batch in acknowledged {
        let found: Option<Vec<_>> = batch.ids.iter().map(|id| stored.get(id)).collect();
        match found.as_deref() {
            None => faults.push("an acknowledged event is missing".to_owned()),
            Some([.., last])
                if last.commit_position == batch.last.position
                    && Some(last.stream_revision) == batch.last.revision => {}
            Some(_) => faults.push("an acknowledged event is at another place".to_owned()),
        }
    }
    faults.extend(half_batches(log));
    faults.extend(gaps(log));
    faults
}

/// Batches with missing events, or with other events between theirs.
fn half_batches(log: &[RecordedEvent]) -> impl Iterator<Item = String> {
    let mut batches = HashMap::<&str, (usize, Vec<(usize, u64)>)>::new();
    for event in log {
        let mut words = std::str::from_utf8(&event.data).unwrap().split(' ');
        if let (Some(first), Some(place), Some(size)) = (words.next(), words.next(), words.next()) {
            let (whole, seen) = batches.entry(first).or_default();
            *whole = size.parse().unwrap();
            seen.push((place.parse().unwrap(), event.stream_revision));
        }
    }
    let is_whole = |(size, seen): &(usize, Vec<(usize, u64)>)| {
        let start = seen[0].1;
        let expected = (0..*size).map(|place| (place, start + place as u64));
        expected.eq(seen.iter().copied())
    };
    let halves = batches
        .into_iter()
        .filter(move |(_, batch)| !is_whole(batch));
    halves.map(|(first, _)| format!("the batch of {first} is incomplete"))
}

fn gaps(log: &[RecordedEvent]) -> Vec<String> {
    let mut next = HashMap::<&[u8], u64>::new();
    let mut gaps = Vec::new();
    for event in log {
        let stream = &event.stream_identifier.as_ref().unwrap().stream_name;
        let expected = next.entry(stream).or_default();
        if event.stream_revision != *expected {
            gaps.push(format!("revision {expected} of a stream is missing"));
        }
        *expected = event.stream_revision + 1;
    }
    gaps
}

/// A fault at the first event of a batch of several events.
type Change = fn(&mut Vec<RecordedEvent>, usize);

/// Plants each kind of fault, which must be found.
pub(super) fn control(acknowledged: &[Batch], log: &[RecordedEvent]) {
    let found = |change: Change, fault: &str| {
        let of_a_batch = |batch: &&Batch| batch.ids.len() > 1;
        let batch = acknowledged.iter().find(of_a_batch).unwrap();
        let place = log.iter().position(|event| id_of(event) == batch.ids[0]);
        let mut log = log.to_vec();
        change(&mut log, place.unwrap());
        let found = faults(acknowledged, &log);
        assert!(
            found.iter().any(|found| found.contains(fault)),
            "{fault}: {found:?}"
        );
    };
    let lose: Change = |log, place| drop(log.remove(place));
    found(lose, "an acknowledged event is missing");
    found(lose, "is incomplete");
    found(lose, "of a stream is missing");
    found(|log, place| log.insert(place, log[place].clone()), "twice");
    found(|log, place| log.swap(place, place + 1), "do not rise");
    let shift: Change = |log, _| log.iter_mut().for_each(|event| event.commit_position += 1);
    found(shift, "at another place");
}
