//! The executable. All code is in the library.

use std::process::ExitCode;

#[tokio::main]
async fn main() -> anyhow::Result<ExitCode> {
    eventstore_lite::cli::run().await
}
