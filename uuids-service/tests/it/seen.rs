//! The check that no id is seen twice, for hundreds of millions of ids.

use std::collections::HashMap;

/// The ids of one worker in one millisecond differ in their lowest 12 bits only.
const SEQUENCE_BITS: u32 = 12;
const WORDS: usize = (1 << SEQUENCE_BITS) / 64;

/// All ids that were seen, one bit each.
#[derive(Default)]
pub(crate) struct Seen {
    pages: HashMap<u64, Box<[u64; WORDS]>>,
    count: u64,
    twice: Vec<u64>,
}

impl Seen {
    pub(crate) fn add(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            let page = self.pages.entry(id >> SEQUENCE_BITS);
            let page = page.or_insert_with(|| Box::new([0; WORDS]));
            let bit = id & ((1 << SEQUENCE_BITS) - 1);
            let word = &mut page[usize::try_from(bit / 64).unwrap()];
            let mask = 1 << (bit % 64);
            if *word & mask != 0 {
                self.twice.push(id);
            }
            *word |= mask;
            self.count += 1;
        }
    }

    /// How many ids were added.
    pub(crate) fn count(&self) -> u64 {
        self.count
    }

    /// The ids that were added more than once.
    pub(crate) fn twice(&self) -> &[u64] {
        &self.twice
    }

    pub(crate) fn assert_none_twice(&self) {
        let some = &self.twice[..self.twice.len().min(10)];
        assert!(some.is_empty(), "{} ids twice: {some:?}", self.twice.len());
    }
}

#[test]
fn a_planted_duplicate_is_reported() {
    let mut seen = Seen::default();
    let ids = (1 << 40)..(1 << 40) + 100_000_u64;
    seen.add(ids.clone());
    seen.add([0, u64::MAX, 4_095, 4_096]);
    assert_eq!(seen.count(), 100_004);
    seen.assert_none_twice();
    for planted in [1 << 40, (1 << 40) + 99_999, u64::MAX] {
        seen.add([planted]);
        assert_eq!(seen.twice().last(), Some(&planted));
    }
    assert_eq!(seen.twice().len(), 3);
}
