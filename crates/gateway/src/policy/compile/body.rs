//! Compiles `max_body` and `[route.body]`.

use super::{compiler::Compiler, defaults::Defaults};
use crate::policy::{
    body::{BodyRule, Field, FieldKind},
    wire::{self, FieldType},
};

/// A judged body passes through a buffer of this size on its way upstream.
const MAX_JUDGED_BODY: u64 = 64 * 1024;
/// The longest text, in characters, if a field sets no maximum.
const DEFAULT_MAX_CHARS: usize = 1_024;
/// The maximum number of words, if a field sets no maximum.
const DEFAULT_MAX_WORDS: usize = 16;

impl Compiler<'_> {
    /// A judged body is read completely first, so its limit is above 0 and at most [`MAX_JUDGED_BODY`].
    pub(super) fn max_body(&mut self, index: usize, route: &wire::Route, defaults: &Defaults) -> u64 {
        let max_body = route.max_body.map_or(defaults.max_body, |max| max.0);
        if route.body.is_some() && max_body > MAX_JUDGED_BODY {
            let what = "a route with a body rule can have a max_body of at most 64KiB; lower it";
            self.faults.in_route(index, "max_body", what);
        }
        if route.body.is_some() && max_body == 0 {
            let whose = if route.max_body.is_some() { "" } else { " of [defaults]" };
            let what = format!(
                "the max_body{whose} is 0, so every body would be refused before its rule is checked; set one such as \
                 \"16KiB\" for this route"
            );
            self.faults.in_route(index, "max_body", what);
        }
        max_body
    }

    pub(super) fn body(&mut self, index: usize, body: wire::Body) -> BodyRule {
        let fields = body.fields.into_iter().map(|(name, field)| self.field(index, name, field)).collect();
        BodyRule { fields, unknown: body.unknown }
    }

    fn field(&mut self, index: usize, name: String, field: wire::Field) -> Field {
        if !has_only_its_own_keys(&field) {
            let what = format!(
                "field {name:?}: values is only for one-of, max only for text, words and integer, min only for integer"
            );
            self.faults.in_route(index, "body", what);
        }
        Field { name: name.into(), required: field.required, kind: self.field_kind(field) }
    }

    fn field_kind(&self, field: wire::Field) -> FieldKind {
        let wire::Field { kind, values, min, max, .. } = field;
        let length = |default| max.and_then(|max| usize::try_from(max).ok()).unwrap_or(default);
        match kind {
            FieldType::Text => FieldKind::Text { max_chars: length(DEFAULT_MAX_CHARS) },
            FieldType::Words => FieldKind::Words { max: length(DEFAULT_MAX_WORDS) },
            FieldType::OneOf => FieldKind::OneOf(values.unwrap_or_default().into_iter().map(Into::into).collect()),
            FieldType::MediaUrl => FieldKind::MediaUrl { allow_private: self.allow_private.to_vec() },
            FieldType::Integer => FieldKind::Integer { min: min.unwrap_or(i64::MIN), max: max.unwrap_or(i64::MAX) },
            FieldType::Boolean => FieldKind::Boolean,
        }
    }
}

/// Returns true if a field has the keys that its type needs, and none that its type ignores.
fn has_only_its_own_keys(field: &wire::Field) -> bool {
    let wire::Field { kind, values, min, max, .. } = field;
    match kind {
        FieldType::OneOf => values.as_ref().is_some_and(|v| !v.is_empty()) && min.is_none() && max.is_none(),
        FieldType::Text | FieldType::Words => values.is_none() && min.is_none() && max.is_none_or(|m| m > 0),
        FieldType::Integer => values.is_none(),
        FieldType::MediaUrl | FieldType::Boolean => values.is_none() && min.is_none() && max.is_none(),
    }
}
