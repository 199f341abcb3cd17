//! The user named by a signed statement, and which other users' objects they may see.

use std::sync::Arc;

use sallyport_core::{names::role::Role, statement::UserLimits};

use super::owner::Owner;

/// The user behind a request. Only the guard creates one.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: Owner,
    pub(crate) role: Role,
    /// The user's own limits, in addition to those of all users.
    pub(crate) limits: UserLimits,
    /// If the request came by a signed link: the query of a link to the object that belongs to the requested one.
    pub(crate) link: Option<String>,
    /// The id of the signed link that the request came by.
    pub(crate) by_link: Option<Arc<str>>,
}

impl Caller {
    #[cfg(test)]
    pub(crate) fn test(user: &str, link: Option<&str>) -> Self {
        let user = user.parse().unwrap();
        let limits = UserLimits::default();
        let by_link = link.map(Into::into);
        Self { user, role: Role::User, limits, link: None, by_link }
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// Returns true if this caller may see objects of `owner`.
    pub(crate) fn may_see(&self, owner: &Owner) -> bool {
        self.is_admin() || self.user == *owner
    }
}
