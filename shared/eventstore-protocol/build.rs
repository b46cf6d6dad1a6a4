//! Generates messages, clients and services from the `.proto` files inside the `eventstore` crate's own package. They
//! cannot drift apart from that crate, and this repository keeps no copy of the files.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

const PROTOS: [&str; 6] = [
    "streams.proto",
    "gossip.proto",
    "monitoring.proto",
    "operations.proto",
    "persistent.proto",
    "serverfeatures.proto",
];

fn main() -> Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let folder = client_package()?.join("protos");
    println!("cargo::rustc-env=EVENTSTORE_PROTOS={}", folder.display());
    let descriptors = protox::compile(PROTOS, [&folder])?;
    tonic_prost_build::configure()
        .bytes(".")
        .compile_fds(descriptors)
        .context("generating the protocol")
}

/// The folder of the `eventstore` package at the version in the lock file.
fn client_package() -> Result<PathBuf> {
    let output = Command::new(std::env::var("CARGO")?)
        .args(["metadata", "--format-version", "1", "--filter-platform"])
        .arg(std::env::var("TARGET")?)
        .output()
        .context("running cargo metadata")?;
    let reason = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo metadata failed: {reason}");
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let packages = metadata["packages"].as_array().context("no packages")?;
    let client = packages.iter().find(|p| p["name"] == "eventstore");
    let manifest = client.and_then(|p| p["manifest_path"].as_str());
    let folder = manifest.and_then(|m| Path::new(m).parent());
    Ok(folder.context("no package named eventstore")?.to_owned())
}
