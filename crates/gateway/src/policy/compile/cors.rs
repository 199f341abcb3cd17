//! Compiles `[cors]`, with the origins that the configuration adds.

use http::{HeaderName, HeaderValue};
use sallyport_core::config::{AppConfig, Fault, Key};

use super::compiler::Compiler;
use crate::policy::{cors::CorsPolicy, origin::Origin, wire};

impl Compiler<'_> {
    pub(super) fn cors(&mut self, cors: &wire::Cors, of_config: &[String]) -> CorsPolicy {
        let mut origins = Vec::new();
        for (i, text) in cors.origins.iter().enumerate() {
            match text.parse::<Origin>() {
                Ok(origin) => origins.push(origin),
                Err(invalid) => {
                    self.faults.add(vec![Key::table("cors"), Key::element("origins", i)], invalid.to_string());
                }
            }
        }
        // Invalid origins in the configuration are reported by `origin_faults`.
        origins.extend(of_config.iter().filter_map(|text| text.parse().ok()));
        CorsPolicy {
            origins,
            credentials: cors.credentials,
            allow_headers: self.header_list("allow_headers", &cors.allow_headers),
            expose_headers: self.header_list("expose_headers", &cors.expose_headers),
            max_age: cors.max_age.0,
        }
    }

    fn header_list(&mut self, key: &'static str, names: &[String]) -> HeaderValue {
        if let Some(bad) = names.iter().find(|name| name.parse::<HeaderName>().is_err() || *name == "*") {
            self.faults.in_table("cors", key, format!("{bad:?} is not the name of a header"));
        }
        HeaderValue::from_str(&names.join(", ")).unwrap_or_else(|_| HeaderValue::from_static(""))
    }
}

/// Checks the origins that the configuration adds to those of the policy; `i` is the index of the application.
pub(super) fn origin_faults(i: usize, app: &AppConfig) -> Vec<Fault> {
    let origins = app.cors_origins.iter().enumerate();
    let faults = origins.filter_map(|(at, text)| Some((at, text.parse::<Origin>().err()?)));
    faults
        .map(|(at, e)| Fault::new(vec![Key::element("app", i), Key::element("cors_origins", at)], e.to_string()))
        .collect()
}
