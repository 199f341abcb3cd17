//! Who asks: the user of a signed statement, and what of other users' he may see.

use std::sync::Arc;

use axum::{extract::FromRequestParts, http::request::Parts};

use super::refusal::Refusal;
use crate::{
    statement::{Limits, Role},
    worker::owner::Owner,
};

/// The user behind a request; made by the guard only.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    pub(crate) user: Owner,
    pub(crate) role: Role,
    /// What he may have, beside what anybody may.
    pub(crate) limits: Limits,
    /// The query of a link to what goes with the object that he asks for, where he came by a link.
    pub(crate) link: Option<String>,
    /// The id of that link, or of whichever link they came by.
    pub(crate) by_link: Option<Arc<str>>,
}

impl Caller {
    #[cfg(test)]
    pub(crate) fn test(user: &str, link: Option<&str>) -> Self {
        let (user, limits, by_link) = (user.parse().unwrap(), Limits::default(), link.map(Into::into));
        Self { user, role: Role::User, limits, link: None, by_link }
    }

    pub(crate) fn is_admin(&self) -> bool {
        self.role == Role::Admin
    }

    /// True when this caller may know of what `owner` has.
    pub(crate) fn may_see(&self, owner: &Owner) -> bool {
        self.is_admin() || self.user == *owner
    }
}

impl<S: Sync> FromRequestParts<S> for Caller {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        parts.extensions.get::<Self>().cloned().ok_or_else(Refusal::internal)
    }
}
