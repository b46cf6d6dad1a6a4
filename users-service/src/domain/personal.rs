//! A value about a person, which nothing prints or serializes by accident.

use std::fmt;

/// Has no `Serialize` and no `Display`, and its `Debug` shows nothing: who needs the value says [`reveal`](Self::reveal).
#[derive(Clone, PartialEq, Eq)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    /// Wraps a value, as early as it is known to be personal.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The value itself.
    #[must_use]
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The value itself, for a place that takes it over.
    #[must_use]
    pub fn into_revealed(self) -> T {
        self.0
    }
}

impl<T> fmt::Debug for Personal<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Personal(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::Personal;

    #[test]
    fn debug_shows_nothing() {
        assert_eq!(format!("{:?}", Personal::new("ada")), "Personal(…)");
    }
}
