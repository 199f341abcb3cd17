//! A compiled route with its position: where the policy file has it, and which requests it is for.

use std::sync::Arc;

use http::Method;

use crate::policy::route::Route;

/// The index of the gateway's own routes, which are in no file.
const OWN: usize = usize::MAX;

/// A route and its position.
pub(super) struct PlacedRoute {
    /// Its index in the file.
    pub(super) index: usize,
    pub(super) path: String,
    pub(super) methods: Vec<Method>,
    pub(super) route: Arc<Route>,
}

impl PlacedRoute {
    pub(super) fn own(path: String, method: Method, route: Route) -> Self {
        Self { index: OWN, path, methods: vec![method], route: Arc::new(route) }
    }

    pub(super) const fn is_own(&self) -> bool {
        self.index == OWN
    }
}
