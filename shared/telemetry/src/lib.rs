//! Structured logs that carry no personal data.
