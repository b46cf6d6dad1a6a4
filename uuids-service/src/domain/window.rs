//! The decider of one stream `uuids-worker-<n>`: which process may issue ids of a worker number, and for which
//! milliseconds.
//!
//! Invariant: a window begins at or after the end of the one before it, so no two windows of one number overlap. Time
//! decides only whether a number may change hands and how far ahead it is granted. The uniqueness of ids does not depend
//! on it.

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

/// The rules by which one worker number is granted.
pub(crate) struct WorkerNumber;

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
}

/// Why no window is granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WindowRefused {
    #[error("the worker number is held")]
    Held,
    #[error("the clock is past the last millisecond that an id can hold")]
    PastTheLayout,
}

impl Decider for WorkerNumber {
    type Command = GrantWindow;
    type State = Tenure;
    type Event = WindowGranted;
    type Refusal = WindowRefused;

    fn initial() -> Tenure {
        Tenure::Unused
    }

    fn decide(state: &Tenure, command: GrantWindow) -> Result<Vec<WindowGranted>, WindowRefused> {
        let GrantWindow {
            holder,
            now_ms,
            purpose,
        } = command;
        let free_from = match state {
            Tenure::Unused => 0,
            Tenure::Granted(last) => {
                let may_have_it = match purpose {
                    Purpose::Take => last.window.until_ms <= now_ms,
                    Purpose::Renew => last.holder == holder,
                };
                if !may_have_it {
                    return Err(WindowRefused::Held);
                }
                last.window.until_ms
            }
        };
        let window = Window {
            from_ms: now_ms.max(free_from),
            until_ms: now_ms.saturating_add(AHEAD_MS),
        };
        if window.until_ms > MILLISECONDS {
            return Err(WindowRefused::PastTheLayout);
        }
        let long_enough = window.until_ms >= window.from_ms.saturating_add(SHORTEST_MS);
        Ok(long_enough
            .then_some(WindowGranted { holder, window })
            .into_iter()
            .collect())
    }

    fn evolve(_: Tenure, event: &WindowGranted) -> Tenure {
        Tenure::Granted(*event)
    }
}
