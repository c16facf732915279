//! Import cycles: files of one folder that import each other cannot be read one after the other.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
};

use crate::{
    layers::{absolute, module_path},
    source::Production,
};

/// Known cycles, in the format of [`cycles`]. The list only shrinks.
pub(crate) const KNOWN: &[&str] = &[];

/// A module: the crate's source folder, and the path inside it.
type Module = (PathBuf, Vec<String>);

/// The folders of these files with modules that import each other: `src/leads: call, error`.
pub(crate) fn cycles(files: &[(PathBuf, Production)]) -> Vec<String> {
    let graph = Graph::read(files);
    let mut found = Vec::new();
    for ((root, folder), edges) in &graph.imports {
        for cycle in components(edges) {
            let path = folder.iter().fold(root.clone(), |path, name| path.join(name));
            let names: Vec<&str> = cycle.iter().map(String::as_str).collect();
            found.push(format!("{}: {}", path.display(), names.join(", ")));
        }
    }
    found
}

/// Imports among the direct children of each folder.
#[derive(Default)]
struct Graph {
    modules: BTreeSet<Module>,
    /// Names that a folder module re-exports, and the child that has them.
    exports: BTreeMap<(Module, String), String>,
    imports: BTreeMap<Module, BTreeMap<String, BTreeSet<String>>>,
}

// === impl Graph ===

impl Graph {
    fn read(files: &[(PathBuf, Production)]) -> Self {
        let mut graph = Self::default();
        for (file, _) in files {
            let (root, path) = module(file);
            // A folder is a module even if its file is not among these.
            for depth in 1..=path.len() {
                graph.modules.insert((root.clone(), path[..depth].to_vec()));
            }
        }
        for (file, code) in files {
            graph.read_exports(file, code);
        }
        for (file, code) in files {
            graph.read_imports(file, code);
        }
        graph
    }

    fn read_exports(&mut self, file: &Path, code: &Production) {
        let (root, own) = module(file);
        for named in &code.paths {
            let Some(alias) = &named.alias else { continue };
            let Some(path) = absolute(&own, named) else { continue };
            let is_below = path.len() > own.len() && own.iter().zip(&path).all(|(a, b)| a == b);
            if !is_below {
                continue;
            }
            let child = path[own.len()].to_owned();
            if self.is_module(&root, &own, &child) {
                self.exports.insert(((root.clone(), own.clone()), alias.clone()), child);
            }
        }
    }

    fn read_imports(&mut self, file: &Path, code: &Production) {
        let (root, own) = module(file);
        for named in &code.paths {
            let Some(path) = absolute(&own, named) else { continue };
            let common = own.iter().zip(&path).take_while(|(a, b)| a == b).count();
            let (Some(from), Some(name)) = (own.get(common), path.get(common)) else { continue };
            let folder = (root.clone(), own[..common].to_vec());
            let to = if self.is_module(&root, &folder.1, name) {
                (*name).to_owned()
            } else if let Some(child) = self.exports.get(&(folder.clone(), (*name).to_owned())) {
                child.clone()
            } else {
                continue;
            };
            if to != *from {
                self.imports.entry(folder).or_default().entry(from.clone()).or_default().insert(to);
            }
        }
    }

    fn is_module(&self, root: &Path, folder: &[String], name: &str) -> bool {
        let path = folder.iter().cloned().chain([name.to_owned()]).collect();
        self.modules.contains(&(root.to_owned(), path))
    }
}

/// Sets of modules of which each reaches each other one.
fn components(edges: &BTreeMap<String, BTreeSet<String>>) -> Vec<BTreeSet<String>> {
    let reached = |start: &String| {
        let (mut seen, mut next) = (BTreeSet::new(), vec![start]);
        while let Some(module) = next.pop() {
            for to in edges.get(module).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    next.push(to);
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&String, BTreeSet<String>> =
        edges.keys().map(|module| (module, reached(module))).collect();
    let mut found: Vec<BTreeSet<String>> = Vec::new();
    for (module, own) in &reached {
        let mutual = |other: &&String| reached.get(*other).is_some_and(|set| set.contains(*module));
        let cycle: BTreeSet<String> = own.iter().filter(mutual).cloned().collect();
        if cycle.len() > 1 && !found.contains(&cycle) {
            found.push(cycle);
        }
    }
    found
}

/// The source folder of the crate, and the module path of a file; empty for the root of the crate.
fn module(file: &Path) -> Module {
    let root: PathBuf = file
        .iter()
        .scan(false, |done, name| {
            (!std::mem::replace(done, *done || name == "src")).then_some(name)
        })
        .collect();
    (root, module_path(file))
}
