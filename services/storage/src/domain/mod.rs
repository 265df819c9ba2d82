//! What storage does to records, without HTTP and SQL: reading, labelling, sealing, laying out, checking.

pub mod blob;
pub mod bundle;
pub mod days;
pub mod index;
pub mod overlay;
pub mod plaintext;
pub mod resource;
pub mod seal;
pub mod segment;
pub mod validation;
