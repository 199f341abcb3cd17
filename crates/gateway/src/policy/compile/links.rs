//! Compiles what a route says about signed links: `link_ignores` and `link_also`.

use http::Method;
use sallyport_core::config::Key;

use super::{compiler::Compiler, placed_route::PlacedRoute};
use crate::{
    identity::{AddedParameter, CredentialKind, InvalidParameter},
    policy::route::Route,
};

impl Compiler<'_> {
    pub(super) fn link_ignores(&mut self, table: Key, names: &[String]) -> Box<[AddedParameter]> {
        let mut parameters = Vec::new();
        for (i, name) in names.iter().enumerate() {
            match name.parse() {
                Ok(parameter) => parameters.push(parameter),
                Err(invalid) => {
                    let key = vec![table, Key::element("link_ignores", i)];
                    self.faults.add(key, InvalidParameter::to_string(&invalid));
                }
            }
        }
        parameters.into()
    }

    /// Checks that `link_also` grants nothing that the link itself could not be created for.
    pub(super) fn judge_link_also(&mut self, all: &[PlacedRoute], statement: bool) {
        for PlacedRoute { index, path, route, .. } in all {
            let Some(name) = &route.link_also else { continue };
            if !statement || !takes_links(route) || path.ends_with('}') {
                let what =
                    "requires the credential \"link\", a path that ends in a name, and [upstream] statement = true";
                self.faults.in_route(*index, "link_also", what);
            }
            let other = beside(path, name, all);
            if !other.is_some_and(|other| takes_links(other) && other.scopes == route.scopes) {
                let what = "must name a route in the same folder that accepts links and has the same scopes";
                self.faults.in_route(*index, "link_also", what);
            }
        }
    }
}

/// Returns the route for GET of `name` in the folder of `path`.
fn beside<'r>(path: &str, name: &str, all: &'r [PlacedRoute]) -> Option<&'r Route> {
    let (folder, _) = path.rsplit_once('/')?;
    let beside = format!("{folder}/{name}");
    let other = all.iter().find(|other| other.path == beside && other.methods.contains(&Method::GET))?;
    Some(&other.route)
}

fn takes_links(route: &Route) -> bool {
    route.credentials.contains(CredentialKind::Link)
}
