//! An EventStoreDB-compatible server in one binary.
