//! Where the ids of the last appends were written first. With any revision accepted, the real server knows a retry by
//! such a memory alone, also after the stream was deleted.

use std::collections::{HashMap, VecDeque};

use uuid::Uuid;

/// How many ids are remembered.
const MOST: usize = 64 * 1024;

#[derive(Debug, Default)]
pub(in crate::storage) struct RecentIds {
    streams: HashMap<Uuid, i64>,
    /// From the first to the last.
    order: VecDeque<Uuid>,
}

impl RecentIds {
    /// An event with this id is written to the stream with this number.
    pub(super) fn note(&mut self, id: Uuid, stream: i64) {
        if self.streams.contains_key(&id) {
            return;
        }
        if self.order.len() == MOST
            && let Some(oldest) = self.order.pop_front()
        {
            self.streams.remove(&oldest);
        }
        self.streams.insert(id, stream);
        self.order.push_back(id);
    }

    /// Whether the id was written to this stream first.
    pub(in crate::storage) fn is_of(&self, id: Uuid, stream: i64) -> bool {
        self.streams.get(&id) == Some(&stream)
    }

    pub(super) fn forget(&mut self) {
        self.streams.clear();
        self.order.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_stream_of_the_last_ids_is_remembered() {
        let id = |number: usize| Uuid::from_u128(number as u128);
        let mut ids = RecentIds::default();
        for number in 0..=MOST {
            ids.note(id(number), 1);
            ids.note(id(number), 2);
        }
        assert!(!ids.is_of(id(0), 1) && !ids.is_of(id(0), 2));
        assert!(ids.is_of(id(1), 1) && ids.is_of(id(MOST), 1));
        assert!(!ids.is_of(id(MOST), 2));
        assert_eq!((ids.streams.len(), ids.order.len()), (MOST, MOST));
    }
}
