//! A supervised EventStoreDB client: idempotent appends, reads, resumable subscriptions.
