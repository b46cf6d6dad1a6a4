//! A wrapper for personal values, which prevents printing or serializing them by accident.

use super::unicode;
use std::fmt;

/// A personal value. It has no `Serialize` and no `Display`, and its `Debug` does not show the value. Code that needs the
/// value calls [`reveal`](Self::reveal).
#[derive(Clone, PartialEq, Eq)]
pub struct Personal<T>(T);

impl<T> Personal<T> {
    /// Wraps a value. Call this as soon as the value is known to be personal.
    #[must_use]
    pub fn new(value: T) -> Self {
        Self(value)
    }

    /// The wrapped value.
    #[must_use]
    pub fn reveal(&self) -> &T {
        &self.0
    }

    /// The wrapped value, moved out.
    #[must_use]
    pub fn into_revealed(self) -> T {
        self.0
    }
}

impl Personal<String> {
    /// The folding that all spellings of a text share: `NFKC_Casefold` (Unicode, section 3.13).
    #[must_use]
    pub fn folded(&self) -> Self {
        Self(unicode::folded(&self.0))
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
