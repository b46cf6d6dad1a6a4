//! The specification of the whole system, as seen from outside.

mod bad_input;
mod cluster;
mod commands_by_queue;
mod compare;
mod consumers;
mod cost;
mod disk;
mod edges;
mod erasure;
mod feed;
mod flow;
mod garbage;
mod harness;
mod kills;
mod lifecycle;
mod operators;
mod overload;
mod own_writes;
mod privacy;
mod property;
mod retries;
mod start_order;
mod store_cluster;
mod structure;
mod usernames;
mod wrong_tokens;
