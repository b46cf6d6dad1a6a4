//! Names of types and files with two meanings.

use super::sources::{Crate, Module};
use std::collections::BTreeMap;

/// File names that may repeat, because these files have the same purpose everywhere.
const CONVENTIONAL: [&str; 1] = ["api"];

/// Types and files of one crate that share a name.
pub(super) fn declared_twice(examined: &Crate) -> impl Iterator<Item = String> {
    let mut types: BTreeMap<&str, Vec<&Module>> = BTreeMap::new();
    let mut files: BTreeMap<&str, Vec<&Module>> = BTreeMap::new();
    for (module, contents) in &examined.modules {
        for name in &contents.types {
            types.entry(name).or_default().push(module);
        }
        if let Some(name) = module.last() {
            files.entry(name).or_default().push(module);
        }
    }
    files.retain(|name, _| !CONVENTIONAL.contains(name));
    let types = types
        .into_iter()
        .map(|(name, at)| (format!("type {name}"), at));
    let files = files
        .into_iter()
        .map(|(name, at)| (format!("file {name}.rs"), at));
    types
        .chain(files)
        .filter(|(_, at)| at.len() > 1)
        .map(|(name, at)| format!("{}: {name}: {}", examined.name, places(&at)))
}

/// Public types of a shared crate whose name a dependent crate declares again.
pub(super) fn declared_again(workspace: &[Crate]) -> impl Iterator<Item = String> {
    workspace.iter().flat_map(move |user| {
        let shared = workspace.iter().filter(|shared| {
            let name = shared.name.rsplit('/').next().unwrap_or_default();
            shared.name.starts_with("shared/") && user.dependencies.contains(name)
        });
        shared.flat_map(|shared| again(shared, user))
    })
}

fn again(shared: &Crate, user: &Crate) -> impl Iterator<Item = String> {
    let public = shared
        .modules
        .values()
        .flat_map(|contents| &contents.public);
    public.filter_map(|name| {
        let at = user.modules.iter();
        let at: Vec<_> = at
            .filter(|(_, contents)| contents.types.contains(name))
            .map(|(module, _)| module)
            .collect();
        let line = format!(
            "{}: type {name} of {}: {}",
            user.name,
            shared.name,
            places(&at)
        );
        (!at.is_empty()).then_some(line)
    })
}

fn places(at: &[&Module]) -> String {
    let places: Vec<_> = at.iter().map(|module| module.join("/")).collect();
    places.join(", ")
}
