//! `hash-password`: prints the hash of a password for the file of users.

use std::io::Read as _;

use anyhow::{Context, Result};
use clap::Args;

use crate::hash_password;

/// Read a password from stdin and print its hash for --users-file
#[derive(Args)]
pub(super) struct HashPasswordArgs {}

/// Reads the password from stdin, because other users could read it on the command line.
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
