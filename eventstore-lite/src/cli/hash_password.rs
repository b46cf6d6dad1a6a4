//! `hash-password`: the hash of a password, for the file of users.

use std::io::Read as _;

use anyhow::{Context, Result};
use clap::Args;

use crate::hash_password;

/// Read a password from stdin, print its hash for --users-file
#[derive(Args)]
pub(super) struct HashPasswordArgs {}

/// A password on the command line would be read by others.
#[expect(clippy::print_stdout, reason = "the hash is what is asked for")]
pub(super) fn run() -> Result<()> {
    let mut password = String::new();
    let read = std::io::stdin().read_to_string(&mut password);
    read.context("reading the password from stdin")?;
    println!(
        "{}",
        hash_password(password.trim_end_matches(['\r', '\n']))?
    );
    Ok(())
}
