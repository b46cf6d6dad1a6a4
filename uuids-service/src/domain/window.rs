//! The decider of one stream `uuids-worker-<n>`: which process may issue ids of a worker number, and for which
//! milliseconds.
//!
//! Invariant: a window begins at or after the end of the one before it, so no two windows of one number overlap. Time
//! decides only whether a number may change hands and how far ahead it is granted. The uniqueness of ids does not depend
//! on it. A number whose log breaks the invariant is never granted again.

use event_sourcing::Decider;
use uuid::Uuid;

use super::id::MILLISECONDS;

/// How far a window may end ahead of its holder's clock. This is how long ids can be issued without the event store.
pub(crate) const AHEAD_MS: u64 = 60_000;
/// A window shorter than this is not worth an event.
pub(crate) const SHORTEST_MS: u64 = 100;

/// A range of milliseconds that belongs to one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first millisecond of the window.
    pub(crate) from_ms: u64,
    /// The first millisecond after the window.
    pub(crate) until_ms: u64,
}

/// A process that holds, or held, a worker number; drawn at random at each start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(pub(crate) Uuid);

impl Holder {
    /// The holder of windows that nobody may use. Such a window sets a floor: later windows begin at its end.
    pub(crate) const NOBODY: Self = Self(Uuid::nil());
}

/// The rules by which one worker number is granted.
pub(crate) struct WorkerNumber;

/// What can be asked of a worker number.
#[derive(Debug, Clone, Copy)]
pub(crate) enum NumberCommand {
    Grant(GrantWindow),
    RaiseFloor(RaiseFloor),
}

/// A request that no later window begins before `floor_ms`, made after a restore of the log at `now_ms`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct RaiseFloor {
    pub(crate) floor_ms: u64,
    pub(crate) now_ms: u64,
}

/// A request for a window by `holder`, whose clock says `now_ms`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrantWindow {
    pub(crate) holder: Holder,
    pub(crate) now_ms: u64,
    pub(crate) purpose: Purpose,
}

/// Why a holder requests a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// It takes a number whose last window is over by its clock. Any process may have held the number before, also the
    /// holder itself before its clock stepped back.
    Take,
    /// It renews the number that it holds.
    Renew,
}

/// The holder may issue ids in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowGranted {
    pub(crate) holder: Holder,
    pub(crate) window: Window,
}

/// The last window of a number, which decides who holds it, because each window begins after the earlier ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// No window was ever granted.
    Unused,
    /// The last granted window.
    Granted(WindowGranted),
    /// A window begins before the end of the one before it, so a stranger wrote one of them.
    Spoiled,
}

/// Why no window is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WindowRefused {
    #[error("the worker number is held")]
    Held,
    #[error("the time is past the last millisecond that an id can hold")]
    PastTheLayout,
    #[error("a window begins before the end of the one before it")]
    Spoiled,
    /// A process may be issuing ids in this window.
    #[error("a window ends at {until_ms}, after now")]
    InUse { until_ms: u64 },
    #[error("a window ends at {until_ms}, after the floor")]
    FloorTooLow { until_ms: u64 },
}

impl Decider for WorkerNumber {
    type Command = NumberCommand;
    type State = Tenure;
    type Event = WindowGranted;
    type Refusal = WindowRefused;

    fn initial() -> Tenure {
        Tenure::Unused
    }

    fn decide(state: &Tenure, command: NumberCommand) -> Result<Vec<WindowGranted>, WindowRefused> {
        let last = match state {
            Tenure::Unused => None,
            Tenure::Granted(last) => Some(last),
            Tenure::Spoiled => return Err(WindowRefused::Spoiled),
        };
        let granted = match command {
            NumberCommand::Grant(grant) => decide_grant(last, grant),
            NumberCommand::RaiseFloor(floor) => decide_floor(last, floor),
        }?;
        Ok(granted.into_iter().collect())
    }

    fn evolve(state: Tenure, event: &WindowGranted) -> Tenure {
        let Window { from_ms, until_ms } = event.window;
        let follows = match state {
            Tenure::Unused => true,
            Tenure::Granted(last) => last.window.until_ms <= from_ms,
            Tenure::Spoiled => false,
        };
        if follows && from_ms < until_ms {
            Tenure::Granted(*event)
        } else {
            Tenure::Spoiled
        }
    }
}

fn decide_grant(
    last: Option<&WindowGranted>,
    GrantWindow {
        holder,
        now_ms,
        purpose,
    }: GrantWindow,
) -> Result<Option<WindowGranted>, WindowRefused> {
    let may_have_it = last.is_none_or(|last| match purpose {
        Purpose::Take => last.window.until_ms <= now_ms,
        Purpose::Renew => last.holder == holder,
    });
    if !may_have_it {
        return Err(WindowRefused::Held);
    }
    let free_from = last.map_or(0, |last| last.window.until_ms);
    let window = Window {
        from_ms: now_ms.max(free_from),
        until_ms: now_ms.saturating_add(AHEAD_MS),
    };
    if window.until_ms > MILLISECONDS {
        return Err(WindowRefused::PastTheLayout);
    }
    let long_enough = window.until_ms >= window.from_ms.saturating_add(SHORTEST_MS);
    Ok(long_enough.then_some(WindowGranted { holder, window }))
}

fn decide_floor(
    last: Option<&WindowGranted>,
    RaiseFloor { floor_ms, now_ms }: RaiseFloor,
) -> Result<Option<WindowGranted>, WindowRefused> {
    if floor_ms > MILLISECONDS {
        return Err(WindowRefused::PastTheLayout);
    }
    let free_from = last.map_or(0, |last| last.window.until_ms);
    if free_from > now_ms && last.is_some_and(|last| last.holder != Holder::NOBODY) {
        return Err(WindowRefused::InUse {
            until_ms: free_from,
        });
    }
    if free_from > floor_ms {
        return Err(WindowRefused::FloorTooLow {
            until_ms: free_from,
        });
    }
    let window = Window {
        from_ms: free_from,
        until_ms: floor_ms,
    };
    let holder = Holder::NOBODY;
    Ok((free_from < floor_ms).then_some(WindowGranted { holder, window }))
}
