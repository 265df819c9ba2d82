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
