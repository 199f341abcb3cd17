//! Compiles the routes of an application into the table that looks them up by path and method.

use std::sync::Arc;

use http::Method;

use super::{compiler::Compiler, placed_route::PlacedRoute};
use crate::policy::route::{Route, RouteConflict, RouteTable};

/// The routes of one path.
#[derive(Clone)]
struct PathRoutes {
    path: String,
    /// The index of the first one in the file.
    index: usize,
    methods: Vec<(Method, Arc<Route>)>,
}

/// A conflict, and the index of the route that has it.
struct PlacedConflict {
    index: usize,
    conflict: RouteConflict,
}

impl Compiler<'_> {
    pub(super) fn route_table(&mut self, all: Vec<PlacedRoute>) -> RouteTable {
        let mut by_path: Vec<PathRoutes> = Vec::new();
        let mut conflicts = Vec::new();
        for placed in all {
            if self.has_unreadable_path(&placed) {
                continue;
            }
            if let Some(known) = by_path.iter_mut().find(|known| known.path == placed.path) {
                conflicts.extend(known.add(placed));
            } else {
                let mut first = PathRoutes { path: placed.path.clone(), index: placed.index, methods: Vec::new() };
                conflicts.extend(first.add(placed));
                by_path.push(first);
            }
        }
        add_roots(&mut by_path);
        let mut table = RouteTable::default();
        for PathRoutes { path, index, methods } in by_path {
            let overlap = table.insert(&path, methods).err();
            conflicts.extend(overlap.map(|conflict| PlacedConflict { index, conflict }));
        }
        for PlacedConflict { index, conflict } in conflicts {
            self.faults.in_route(index, "path", conflict.to_string());
        }
        table
    }

    /// Reports a path that no request can have.
    fn has_unreadable_path(&mut self, placed: &PlacedRoute) -> bool {
        let outside = outside_braces(&placed.path);
        let what = if outside.contains('*') {
            "a lone * matches only itself, so no request would match; write {*rest} for the rest of the path, or {name} for \
             one segment"
        } else if outside.contains(['?', '#']) {
            "a path does not include ? or #; remove the query"
        } else {
            return false;
        };
        self.faults.in_route(placed.index, "path", what);
        true
    }
}

impl PathRoutes {
    /// Adds a route for those of its methods that no earlier route has.
    fn add(&mut self, placed: PlacedRoute) -> Vec<PlacedConflict> {
        let PlacedRoute { index, methods, route, .. } = placed;
        let mut conflicts = Vec::new();
        for method in methods {
            if let Some((_, first)) = self.methods.iter().find(|(taken, _)| *taken == method) {
                let conflict = RouteConflict::Taken(method, Arc::clone(&first.name));
                conflicts.push(PlacedConflict { index, conflict });
            } else {
                self.methods.push((method, Arc::clone(&route)));
            }
        }
        conflicts
    }
}

/// Makes `/x/{*rest}` match `/x/` as well, except for methods that have their own route there: the router's catch-all needs at least
/// one character.
fn add_roots(by_path: &mut Vec<PathRoutes>) {
    for PathRoutes { path, index, methods } in by_path.clone() {
        let Some(root) = path.rfind("{*").and_then(|at| path.get(..at)) else { continue };
        match by_path.iter_mut().find(|known| known.path == root) {
            Some(known) => {
                let is_free = |method: &Method| known.methods.iter().all(|(taken, _)| taken != method);
                let free: Vec<_> = methods.into_iter().filter(|(method, _)| is_free(method)).collect();
                known.methods.extend(free);
            }
            None => by_path.push(PathRoutes { path: root.to_owned(), index, methods }),
        }
    }
}

/// Returns the literal parts of a path template.
fn outside_braces(path: &str) -> String {
    let mut depth = 0_u32;
    path.chars()
        .filter(|c| {
            match c {
                '{' => depth += 1,
                '}' => depth = depth.saturating_sub(1),
                _ => return depth == 0,
            }
            false
        })
        .collect()
}
