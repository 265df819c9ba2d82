//! Small builders for the OpenAPI schemas of types that are plain strings on the wire.

use utoipa::openapi::schema::{Object, ObjectBuilder, Schema, Type};

/// A string that matches `pattern` (an ECMA-262 regular expression).
#[must_use]
pub fn text(pattern: &str, description: &str) -> Schema {
    let object: Object = ObjectBuilder::new()
        .schema_type(Type::String)
        .pattern(Some(pattern))
        .description(Some(description))
        .build();
    object.into()
}

/// A string that is one of `codes`.
#[must_use]
pub fn one_of<'a>(codes: impl Iterator<Item = &'a str>, description: &str) -> Schema {
    let object: Object = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some(codes))
        .description(Some(description.trim()))
        .build();
    object.into()
}
