//! The layout of an id: 41 bits of milliseconds, 10 bits of worker, 12 bits of sequence, below a sign bit of 0.

/// The number of milliseconds that the layout can hold, until the year 2084.
pub(crate) const MILLISECONDS: u64 = 1 << 41;
/// The number of workers that the layout can hold.
pub(crate) const WORKERS: u16 = 1 << WORKER_BITS;

const WORKER_BITS: u32 = 10;
const SEQUENCE_BITS: u32 = 12;

/// An id; ids are ordered by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Id(u64);

/// The part of an id without its worker: `millisecond << 12 | sequence`. Each worker can issue one id per tick. The next
/// tick is the next number.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tick(u64);

impl Tick {
    /// The first tick of the millisecond.
    pub(crate) fn first_of(millisecond: u64) -> Self {
        Self(millisecond << SEQUENCE_BITS)
    }

    pub(crate) fn millisecond(self) -> u64 {
        self.0 >> SEQUENCE_BITS
    }

    pub(crate) fn sequence(self) -> u64 {
        low(self.0, SEQUENCE_BITS)
    }

    /// The number of ticks from this one to the end of its millisecond.
    pub(crate) fn ticks_left(self) -> u64 {
        (1 << SEQUENCE_BITS) - self.sequence()
    }

    pub(crate) fn plus(self, ticks: u64) -> Self {
        Self(self.0 + ticks)
    }
}

impl Id {
    pub(crate) fn new(tick: Tick, worker: u16) -> Self {
        let millisecond = tick.millisecond() << (WORKER_BITS + SEQUENCE_BITS);
        let worker = u64::from(worker) << SEQUENCE_BITS;
        Self(millisecond | worker | low(tick.0, SEQUENCE_BITS))
    }

    /// `None` if the sign bit is set, which no id has.
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
