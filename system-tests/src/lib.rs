//! The whole system from outside: real processes, a real broker, faults, figures.
