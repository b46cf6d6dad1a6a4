//! Refuses to build with an SQLite that lacks the table of its pages.

use anyhow::{Result, ensure};

/// A scavenge uses this table to overwrite erased data. Without it, the data would remain on disk.
fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=LIBSQLITE3_FLAGS");
    let flags = std::env::var("LIBSQLITE3_FLAGS").unwrap_or_default();
    let has_pages = flags.contains("SQLITE_ENABLE_DBPAGE_VTAB");
    ensure!(
        has_pages,
        "set LIBSQLITE3_FLAGS=-DSQLITE_ENABLE_DBPAGE_VTAB, as .cargo/config.toml does"
    );
    Ok(())
}
