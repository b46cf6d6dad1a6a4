//! Circles between the children of one module.

use super::sources::{Crate, Module};
use std::collections::{BTreeMap, BTreeSet};

/// Child -> child that it uses -> the using and the used module below these children.
type Uses = BTreeMap<String, BTreeMap<String, (Module, Module)>>;

/// Reports each circle in a line; each child is in at most one of them.
pub(super) fn of(examined: &Crate) -> Vec<String> {
    let parents: BTreeSet<&[String]> = examined
        .modules
        .keys()
        .flat_map(|module| (0..module.len()).map(|depth| &module[..depth]))
        .collect();
    let mut circles = Vec::new();
    for parent in parents {
        let uses = between_children(examined, parent);
        let mut seen = BTreeSet::new();
        for child in uses.keys() {
            if seen.contains(child) {
                continue;
            }
            if let Some(circle) = circle(&uses, child) {
                seen.extend(circle.iter().cloned());
                circles.push(line(examined, parent, &uses, &circle));
            }
        }
    }
    circles
}

fn between_children(examined: &Crate, parent: &[String]) -> Uses {
    let depth = parent.len();
    let mut uses = Uses::new();
    for (module, contents) in &examined.modules {
        if module.len() <= depth || !module.starts_with(parent) {
            continue;
        }
        for path in &contents.uses {
            let target = examined.resolve(path);
            if target.len() > depth && target.starts_with(parent) && target[depth] != module[depth]
            {
                let of_child = uses.entry(module[depth].clone()).or_default();
                of_child
                    .entry(target[depth].clone())
                    .or_insert_with(|| (module[depth..].to_vec(), target[depth..].to_vec()));
            }
        }
    }
    uses
}

/// The shortest path from the child back to itself, both ends included.
fn circle(uses: &Uses, child: &String) -> Option<Vec<String>> {
    let mut ways = vec![vec![child.clone()]];
    let mut reached = BTreeSet::new();
    while !ways.is_empty() {
        let mut longer = Vec::new();
        for way in ways {
            for next in uses.get(way.last()?).into_iter().flat_map(BTreeMap::keys) {
                let mut way = way.clone();
                way.push(next.clone());
                if next == child {
                    return Some(way);
                }
                if reached.insert(next.clone()) {
                    longer.push(way);
                }
            }
        }
        ways = longer;
    }
    None
}

fn line(examined: &Crate, parent: &[String], uses: &Uses, circle: &[String]) -> String {
    let place = [std::slice::from_ref(&examined.name), parent]
        .concat()
        .join("/");
    let steps: Vec<_> = circle
        .windows(2)
        .map(|step| {
            let (from, to) = &uses[&step[0]][&step[1]];
            format!("{} uses {}", from.join("/"), to.join("::"))
        })
        .collect();
    format!("{place}: {} ({})", circle.join(" -> "), steps.join(", "))
}
