//! The modules of each crate: which modules they use, and which types they declare. Code that is only built for tests is
//! omitted.

use super::queues;
use proc_macro2::{Delimiter, TokenStream, TokenTree};
use quote::ToTokens;
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use syn::{Attribute, File, Item, UseTree, Visibility};

/// The path of a module below the root of its crate.
pub(super) type Module = Vec<String>;

/// One crate of the workspace.
pub(super) struct Crate {
    /// The folder of the crate, relative to the workspace.
    pub(super) name: String,
    /// The names of its dependencies.
    pub(super) dependencies: BTreeSet<String>,
    pub(super) modules: BTreeMap<Module, Contents>,
}

/// The uses and declarations of a module.
#[derive(Default)]
pub(super) struct Contents {
    /// The used paths, relative to the root of the crate.
    pub(super) uses: BTreeSet<Module>,
    /// The declared structs, enums and traits.
    pub(super) types: BTreeSet<String>,
    /// The types that are declared `pub`.
    pub(super) public: BTreeSet<String>,
    /// The named channels without a bound.
    pub(super) unbounded: BTreeSet<String>,
    /// Re-exported name -> its origin.
    exports: BTreeMap<String, Module>,
    tests: BTreeSet<String>,
}

/// All crates of this workspace that have sources.
pub(super) fn workspace() -> Vec<Crate> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let folders = children(&root)
        .into_iter()
        .chain(children(&root.join("shared")))
        .filter(|folder| folder.join("src").is_dir() && folder.join("Cargo.toml").is_file());
    let crates: Vec<_> = folders.map(|folder| Crate::read(&root, &folder)).collect();
    assert!(crates.len() > 10, "the sources were not found");
    crates
}

fn children(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder that can be read");
    let mut children: Vec<_> = entries
        .map(|entry| entry.expect("an entry").path())
        .collect();
    children.sort();
    children
}

impl Crate {
    fn read(root: &Path, folder: &Path) -> Self {
        let name = folder.strip_prefix(root).expect("it is inside");
        let sources = folder.join("src");
        let mut texts = Vec::new();
        collect(&sources, &sources, &mut texts);
        let texts: Vec<_> = texts
            .iter()
            .map(|(path, text)| (path.as_str(), text.as_str()))
            .collect();
        let manifest = fs::read_to_string(folder.join("Cargo.toml")).expect("a manifest");
        let mut read = Self::of(&name.display().to_string(), &texts);
        read.dependencies = dependencies(&manifest);
        read
    }

    /// A crate with these files; each is a path below `src` and its text.
    pub(super) fn of(name: &str, files: &[(&str, &str)]) -> Self {
        let mut modules = BTreeMap::new();
        for (path, text) in files {
            let module = module(path);
            // An executable beside a library is a separate crate.
            if module.first().is_some_and(|first| first == "bin") || *path == "main.rs" {
                continue;
            }
            let file = syn::parse_file(text).unwrap_or_else(|error| panic!("{path}: {error}"));
            modules.insert(module.clone(), contents(&module, file));
        }
        let tests: Vec<Module> = modules
            .iter()
            .flat_map(|(module, contents)| contents.tests.iter().map(|test| child(module, test)))
            .collect();
        modules.retain(|module, _| !tests.iter().any(|test| module.starts_with(test)));
        Self {
            name: name.to_owned(),
            dependencies: BTreeSet::new(),
            modules,
        }
    }

    pub(super) fn using(mut self, dependency: &str) -> Self {
        self.dependencies.insert(dependency.to_owned());
        self
    }

    /// Each module that names a channel without a bound, and the name, in a line.
    pub(super) fn unbounded(&self) -> Vec<String> {
        let modules = self.modules.iter();
        let lines = modules.flat_map(|(module, contents)| {
            let place = format!("{}/{}", self.name, module.join("/"));
            let names = contents.unbounded.iter();
            names.map(move |name| format!("{place}: {name}"))
        });
        lines.collect()
    }

    /// The module to which a path leads, following re-exports.
    pub(super) fn resolve(&self, path: &[String]) -> Module {
        let mut path = path.to_vec();
        for _ in 0..8 {
            let depth = (0..=path.len())
                .rev()
                .find(|depth| self.modules.contains_key(&path[..*depth]))
                .unwrap_or_default();
            let (module, rest) = path.split_at(depth);
            let export = rest.first().and_then(|name| {
                let contents = self.modules.get(module)?;
                contents.exports.get(name)
            });
            match export {
                Some(target) => path = [target.as_slice(), &rest[1..]].concat(),
                None => return module.to_vec(),
            }
        }
        path
    }
}

fn collect(root: &Path, folder: &Path, texts: &mut Vec<(String, String)>) {
    for path in children(folder) {
        if path.is_dir() {
            collect(root, &path, texts);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).expect("it is inside");
            let text = fs::read_to_string(&path).expect("a source that can be read");
            texts.push((name.display().to_string(), text));
        }
    }
}

/// The names under `[dependencies]`, also in the form `name.workspace = true`.
fn dependencies(manifest: &str) -> BTreeSet<String> {
    let section = manifest.split("[dependencies]").nth(1).unwrap_or_default();
    let section = section.split("\n[").next().unwrap_or_default();
    let lines = section.lines().filter(|line| !line.starts_with('#'));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect()
}

fn module(path: &str) -> Module {
    let path = path.trim_end_matches(".rs");
    let parts = path.split('/').map(str::to_owned);
    parts
        .filter(|part| part != "lib" && part != "main")
        .collect()
}

fn child(module: &[String], name: &str) -> Module {
    [module, &[name.to_owned()]].concat()
}

fn contents(module: &[String], file: File) -> Contents {
    let mut contents = Contents::default();
    for item in file.items {
        if is_for_tests(attributes(&item)) {
            if let Item::Mod(test) = &item {
                contents.tests.insert(test.ident.to_string());
            }
            continue;
        }
        declare(&mut contents, module, &item);
        let tokens = item.into_token_stream();
        contents.unbounded.extend(queues::unbounded(tokens.clone()));
        paths(module, tokens, &mut contents.uses);
    }
    contents
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "other items declare no name that is checked"
)]
fn declare(contents: &mut Contents, module: &[String], item: &Item) {
    let (name, visibility) = match item {
        Item::Struct(item) => (&item.ident, &item.vis),
        Item::Enum(item) => (&item.ident, &item.vis),
        Item::Trait(item) => (&item.ident, &item.vis),
        Item::Use(item) if !matches!(item.vis, Visibility::Inherited) => {
            exports(module, &mut Vec::new(), &item.tree, &mut contents.exports);
            return;
        }
        _ => return,
    };
    if matches!(visibility, Visibility::Public(_)) {
        contents.public.insert(name.to_string());
    }
    contents.types.insert(name.to_string());
}

fn exports(
    module: &[String],
    prefix: &mut Vec<String>,
    tree: &UseTree,
    into: &mut BTreeMap<String, Module>,
) {
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            exports(module, prefix, &path.tree, into);
            prefix.pop();
        }
        UseTree::Group(group) => {
            for tree in &group.items {
                exports(module, prefix, tree, into);
            }
        }
        UseTree::Name(name) => {
            let path = child(prefix, &name.ident.to_string());
            let target = absolute(module, &path).unwrap_or_else(|| [module, &path].concat());
            into.insert(name.ident.to_string(), target);
        }
        UseTree::Rename(_) | UseTree::Glob(_) => {}
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "only these items are ever built for tests alone"
)]
fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Mod(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Const(item) => &item.attrs,
        _ => &[],
    }
}

fn is_for_tests(attributes: &[Attribute]) -> bool {
    attributes.iter().any(|attribute| {
        let text = attribute.to_token_stream().to_string();
        attribute.path().is_ident("cfg") && text.contains("test")
    })
}

/// Collects every path in these tokens that begins with `crate`, `super` or `self`, also inside macros.
fn paths(module: &[String], tokens: TokenStream, into: &mut BTreeSet<Module>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        match token {
            TokenTree::Group(group) => paths(module, group.stream(), into),
            TokenTree::Ident(ident)
                if ["crate", "super", "self"].contains(&ident.to_string().as_str()) =>
            {
                let mut path = vec![ident.to_string()];
                follow(module, &mut path, &mut tokens, into);
            }
            TokenTree::Ident(_) | TokenTree::Punct(_) | TokenTree::Literal(_) => {}
        }
    }
}

type Tokens = std::iter::Peekable<proc_macro2::token_stream::IntoIter>;

/// Reads the rest of a path: each `::name`, and the branches of a group in braces.
fn follow(
    module: &[String],
    path: &mut Vec<String>,
    tokens: &mut Tokens,
    into: &mut BTreeSet<Module>,
) {
    while is_colon(tokens) {
        tokens.next();
        if !is_colon(tokens) {
            break;
        }
        tokens.next();
        match tokens.peek() {
            Some(TokenTree::Ident(ident)) => {
                path.push(ident.to_string());
                tokens.next();
            }
            Some(TokenTree::Group(group)) if group.delimiter() == Delimiter::Brace => {
                branches(module, path, group.stream(), into);
                tokens.next();
                return;
            }
            _ => break,
        }
    }
    into.extend(absolute(module, path));
}

fn branches(module: &[String], path: &[String], tokens: TokenStream, into: &mut BTreeSet<Module>) {
    let mut tokens = tokens.into_iter().peekable();
    while let Some(token) = tokens.next() {
        if let TokenTree::Ident(ident) = token {
            let mut branch = child(path, &ident.to_string());
            follow(module, &mut branch, &mut tokens, into);
        }
    }
}

fn is_colon(tokens: &mut Tokens) -> bool {
    matches!(tokens.peek(), Some(TokenTree::Punct(punct)) if punct.as_char() == ':')
}

/// The path relative to the root of the crate; `None` if it leads outside the crate.
fn absolute(module: &[String], path: &[String]) -> Option<Module> {
    let ups = path.iter().take_while(|part| *part == "super").count();
    let (base, rest) = match path.first()?.as_str() {
        "crate" => (&module[..0], &path[1..]),
        "self" => (module, &path[1..]),
        "super" => (&module[..module.len().checked_sub(ups)?], &path[ups..]),
        _ => return None,
    };
    let rest = rest.iter().filter(|part| *part != "self").cloned();
    Some(base.iter().cloned().chain(rest).collect())
}
