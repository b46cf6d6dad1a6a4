//! Who may issue ids of a worker number, and for which milliseconds: the decider of one stream `uuids-worker-<n>`.
//!
//! Invariant: a window begins at or after the end of the one before it, so no two windows of one number overlap. Time
//! decides only whether a number may change hands and how far ahead it is granted, never whether ids are unique.

use event_sourcing::Decider;
use uuid::Uuid;

use super::id::MILLISECONDS;

/// A window ends at most so far ahead of the clock of whoever asks for it: how long ids go on without the event store.
pub(crate) const AHEAD_MS: u64 = 60_000;
/// A window that would be shorter is not worth an event.
pub(crate) const SHORTEST_MS: u64 = 100;

/// Milliseconds that belong to one holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// The first millisecond of the window.
    pub(crate) from_ms: u64,
    /// The first millisecond after the window.
    pub(crate) until_ms: u64,
}

/// A process that holds, or held, a worker number: random per start of the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder(pub(crate) Uuid);

/// How one worker number is granted.
pub(crate) struct WorkerNumber;

/// `holder`, whose clock says `now_ms`, asks for a window.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GrantWindow {
    pub(crate) holder: Holder,
    pub(crate) now_ms: u64,
    pub(crate) purpose: Purpose,
}

/// What a window is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// To take a number whose last window is over by the clock, whoever held it: also one that the holder itself held
    /// before its clock stepped back.
    TakeTheNumber,
    /// To go on with the number that the holder has.
    GoOn,
}

/// The holder may issue ids in the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WindowGranted {
    pub(crate) holder: Holder,
    pub(crate) window: Window,
}

/// Whose the number is: that of the last window, as each window begins after those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tenure {
    /// Nobody ever held it.
    Unused,
    /// The last window that was granted.
    Granted(WindowGranted),
}

/// Why there is no window.
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
                    Purpose::TakeTheNumber => last.window.until_ms <= now_ms,
                    Purpose::GoOn => last.holder == holder,
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
