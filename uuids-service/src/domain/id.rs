//! The layout of an id: 41 bits of milliseconds, 10 bits of worker, 12 bits of sequence, below a sign bit of 0.

/// The milliseconds that the layout has room for, until the year 2084.
pub(crate) const MILLISECONDS: u64 = 1 << 41;
/// The worker numbers that the layout has room for.
pub(crate) const WORKERS: u16 = 1 << WORKER_BITS;

const WORKER_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;

/// An id, in the order of its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

/// One place for an id of any one worker: `millisecond << 12 | sequence`. The next place is the next number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// The first place of a millisecond.
    pub(crate) fn first_of(millisecond: u64) -> Self {
        Self(millisecond << SEQUENCE_BITS)
    }

    pub(crate) fn millisecond(self) -> u64 {
        self.0 >> SEQUENCE_BITS
    }

    pub(crate) fn sequence(self) -> u64 {
        low(self.0, SEQUENCE_BITS)
    }

    /// How many places its millisecond has from this one on.
    pub(crate) fn places_left(self) -> u64 {
        (1 << SEQUENCE_BITS) - self.sequence()
    }

    pub(crate) fn plus(self, places: u64) -> Self {
        Self(self.0 + places)
    }
}

impl Id {
    pub(crate) fn new(tick: Tick, worker: u16) -> Self {
        let millisecond = tick.millisecond() << (WORKER_BITS + SEQUENCE_BITS);
        let worker = u64::from(worker) << SEQUENCE_BITS;
        Self(millisecond | worker | low(tick.0, SEQUENCE_BITS))
    }

    /// Any number but those with the sign bit set, which no id has.
    pub(crate) fn parse(number: u64) -> Option<Self> {
        Some(Self(number)).filter(|id| id.millisecond() < MILLISECONDS)
    }

    pub(crate) fn number(self) -> u64 {
        self.0
    }

    pub(crate) fn millisecond(self) -> u64 {
        self.0 >> (WORKER_BITS + SEQUENCE_BITS)
    }

    pub(crate) fn worker(self) -> u64 {
        low(self.0 >> SEQUENCE_BITS, WORKER_BITS)
    }

    pub(crate) fn sequence(self) -> u64 {
        low(self.0, SEQUENCE_BITS)
    }
}

fn low(number: u64, bits: u32) -> u64 {
    number & ((1 << bits) - 1)
}
