//! What storage does to records, without HTTP and SQL: reading, labelling, sealing, laying out, checking.

pub mod json;
pub mod overlay;
pub mod plaintext;
pub mod seal;
pub mod validation;
