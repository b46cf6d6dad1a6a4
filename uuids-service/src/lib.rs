//! 64-bit ids, numeric, sortable by time, unique across machines.
