//! The routes that the gateway itself answers on every site.

use sallyport_core::config::Rate;

use super::compiler::Compiler;
use crate::{
    identity::{CredentialKind, CredentialKinds},
    policy::{
        LimitBy,
        addresses::AddressRules,
        body::{BodyRule, Field, FieldKind, UnknownFields},
        route::{Handler, Route},
        safe_path::Names,
        wire,
    },
};

/// The name of the route that creates links.
const CREATE_LINK: &str = "create-link";
/// The name of the route of the welcome page.
const WELCOME: &str = "welcome";

impl Compiler<'_> {
    /// Returns the route `POST /.sallyport/links`, which every site has.
    pub(super) fn create_link(&self, no_cors: bool, addresses: &AddressRules) -> Route {
        let text = |max_chars| FieldKind::Text { max_chars };
        let field = |name: &str, required, kind| Field { name: name.into(), required, kind };
        let rate = wire::Limit { rate: Rate::per_minute(60), by: LimitBy::User, burst: None };
        let fields =
            vec![field("path", true, text(8_192)), field("expires", false, text(32)), field("user", false, text(64))];
        Route {
            name: CREATE_LINK.into(),
            addresses: addresses.clone(),
            credentials: [CredentialKind::ApiKey, CredentialKind::Jwt, CredentialKind::ClientCertificate]
                .into_iter()
                .collect(),
            anonymous: false,
            scopes: ["links:write".into()].into(),
            limits: self.limits(CREATE_LINK, &[rate]),
            cors: !no_cors,
            max_body: 16 << 10,
            body: Some(BodyRule { fields, unknown: UnknownFields::Refuse }),
            link_object: None,
            link_also: None,
            link_ignores: Box::default(),
            names: Names::Plain,
            app_headers: Box::default(),
            handler: Handler::CreateLink,
        }
    }

    /// Returns the route `GET /` for a site that has no page of its own.
    pub(super) fn welcome(&self, addresses: &AddressRules) -> Route {
        let rate = wire::Limit { rate: Rate::per_minute(120), by: LimitBy::Address, burst: None };
        Route {
            name: WELCOME.into(),
            addresses: addresses.clone(),
            credentials: CredentialKinds::default(),
            anonymous: true,
            scopes: Box::default(),
            limits: self.limits(WELCOME, &[rate]),
            cors: false,
            max_body: 0,
            body: None,
            link_object: None,
            link_also: None,
            link_ignores: Box::default(),
            names: Names::Plain,
            app_headers: Box::default(),
            handler: Handler::Welcome,
        }
    }
}
