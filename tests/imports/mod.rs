//! Reads which module of a crate uses which other module, from the paths in its source.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use regex::Regex;

/// The path of a module inside its crate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Module(Vec<String>);

/// A crate: its modules, and the modules that each uses.
pub(crate) struct Crate {
    modules: BTreeMap<Module, String>,
    /// What a module exports under its own path, and where it is.
    exports: BTreeMap<Vec<String>, Vec<String>>,
}

impl Module {
    /// The module of a file, or none for the tests of a module.
    fn of(file: &Path) -> Option<Self> {
        let mut path: Vec<_> = file.with_extension("").iter().map(|name| name.to_str().unwrap().to_owned()).collect();
        match path.last()?.as_str() {
            "mod" | "lib" => _ = path.pop(),
            name if name == "tests" || name.ends_with("_tests") => return None,
            _ => {}
        }
        Some(Self(path))
    }

    /// The part of the crate that the module belongs to.
    pub(crate) fn room(&self) -> &str {
        self.0.first().map_or("", String::as_str)
    }

    fn is_within(&self, other: &Self) -> bool {
        self.0.starts_with(&other.0)
    }
}

impl fmt::Display for Module {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.join("::"))
    }
}

impl Crate {
    pub(crate) fn read(src: &Path) -> Self {
        let mut modules = BTreeMap::new();
        for file in crate::sources(src) {
            if let Some(module) = Module::of(file.strip_prefix(src).unwrap()) {
                modules.insert(module, without_tests(&fs::read_to_string(file).unwrap()));
            }
        }
        let mut of = Self { modules, exports: BTreeMap::new() };
        for (module, text) in &of.modules {
            for (path, alias) in uses(text, true).flat_map(|tree| flat(&tree)) {
                let (Some(to), Some(name)) = (of.absolute(module, &path), alias.or(path.last().cloned())) else {
                    continue;
                };
                of.exports.insert([module.0.as_slice(), &[name]].concat(), to);
            }
        }
        of
    }

    pub(crate) fn rooms(&self) -> BTreeSet<&str> {
        self.modules.keys().map(Module::room).filter(|room| !room.is_empty()).collect()
    }

    /// Every pair of a module and another one that it uses. The root of the crate stands above all rooms.
    pub(crate) fn imports(&self) -> impl Iterator<Item = (&Module, Module)> {
        self.modules.iter().filter(|(module, _)| !module.0.is_empty()).flat_map(|(module, text)| {
            let used = uses(text, false).flat_map(|tree| flat(&tree)).map(|(path, _)| path).chain(inline(text));
            let targets: BTreeSet<_> = used.filter_map(|path| self.target(&self.absolute(module, &path)?)).collect();
            targets.into_iter().filter(|to| *to != *module && !to.0.is_empty()).map(move |to| (module, to))
        })
    }

    /// Groups of modules that need each other.
    pub(crate) fn circles(&self) -> Vec<Vec<String>> {
        let mut uses: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
        for (from, to) in self.imports().filter(|(from, to)| !from.is_within(to)) {
            uses.entry(from).or_default().insert(to);
        }
        let reachable = |from: &Module| {
            let mut seen = BTreeSet::new();
            let mut open = vec![from.clone()];
            while let Some(module) = open.pop() {
                let next = uses.get(&module).into_iter().flatten();
                open.extend(next.filter(|next| seen.insert((*next).clone())).cloned());
            }
            seen
        };
        let all: BTreeMap<_, _> = self.modules.keys().map(|module| (module, reachable(module))).collect();
        let circle = |module: &Module| {
            let members = all.iter().filter(|(other, reached)| reached.contains(module) && all[module].contains(other));
            members.map(|(other, _)| other.to_string()).collect::<Vec<_>>()
        };
        let found: BTreeSet<_> = self.modules.keys().map(circle).filter(|circle| circle.len() > 1).collect();
        found.into_iter().collect()
    }

    /// The path from the root of the crate, or none if the path leads to another crate.
    fn absolute(&self, module: &Module, path: &[String]) -> Option<Vec<String>> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            "crate" => Some(rest.to_vec()),
            "self" => Some([module.0.as_slice(), rest].concat()),
            "super" => {
                let parent = Module(module.0.get(..module.0.len().checked_sub(1)?)?.to_vec());
                let rest = if rest.first().is_some_and(|next| next == "super") {
                    rest.to_vec()
                } else {
                    [&["self".to_owned()], rest].concat()
                };
                self.absolute(&parent, &rest)
            }
            _ => {
                let child = [module.0.as_slice(), path].concat();
                self.modules.contains_key(&Module(child.get(..=module.0.len())?.to_vec())).then_some(child)
            }
        }
    }

    /// The module in which a path ends, where what it names is defined.
    fn target(&self, path: &[String]) -> Option<Module> {
        let mut path = path.to_vec();
        // No item is exported again and again more often than this.
        for _ in 0..8 {
            let exported = (1..=path.len()).rev().find_map(|n| Some((n, self.exports.get(&path[..n])?)));
            let Some((n, to)) = exported else { break };
            path = [to.as_slice(), &path[n..]].concat();
        }
        (0..=path.len()).rev().map(|n| Module(path[..n].to_vec())).find(|module| self.modules.contains_key(module))
    }
}

/// The text up to its unit tests, which stand last, without comments.
fn without_tests(text: &str) -> String {
    let code = text.split("\n#[cfg(test)]\nmod ").next().unwrap_or_default();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// The trees of the `use` items; only those that export, or all.
fn uses(text: &str, exporting: bool) -> impl Iterator<Item = String> {
    let item = Regex::new(r"(?m)^ *(pub(?:\([^)]*\))? )?use ([^;]+);").unwrap();
    let found: Vec<_> = item
        .captures_iter(text)
        .filter(|item| !exporting || item.get(1).is_some())
        .map(|item| item[2].split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    found.into_iter()
}

/// Paths in code that begin at the root of the crate or at the parent.
fn inline(text: &str) -> impl Iterator<Item = Vec<String>> {
    let item = Regex::new(r"(?m)^ *(?:pub(?:\([^)]*\))? )?use [^;]+;").unwrap();
    let path = Regex::new(r"\b(?:crate|super)(?:::\w+)+").unwrap();
    let code = item.replace_all(text, "").replace("pub(in crate::", "(");
    let found: Vec<Vec<_>> =
        path.find_iter(&code).map(|path| path.as_str().split("::").map(ToOwned::to_owned).collect()).collect();
    found.into_iter()
}

/// The paths of a `use` tree, each with its alias.
fn flat(tree: &str) -> Vec<(Vec<String>, Option<String>)> {
    let Some((prefix, group)) = tree.split_once('{') else {
        let (path, alias) =
            tree.split_once(" as ").map_or((tree, None), |(path, alias)| (path, Some(alias.trim().to_owned())));
        let path = path.split("::").map(|name| name.trim().to_owned());
        return vec![(path.filter(|name| !name.is_empty()).collect(), alias)];
    };
    let group = group.rsplit_once('}').map_or(group, |(group, _)| group);
    branches(group)
        .into_iter()
        .flat_map(|branch| {
            flat(&if branch.trim() == "self" {
                prefix.trim_end_matches("::").to_owned()
            } else {
                format!("{prefix}{}", branch.trim())
            })
        })
        .collect()
}

/// Splits the inside of a group at its own commas.
fn branches(group: &str) -> Vec<String> {
    let mut depth = 0;
    let mut found = vec![String::new()];
    for c in group.chars() {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        match (c, found.last_mut()) {
            (',', _) if depth == 0 => found.push(String::new()),
            (_, Some(last)) => last.push(c),
            (_, None) => {}
        }
    }
    found.into_iter().filter(|branch| !branch.trim().is_empty()).collect()
}
