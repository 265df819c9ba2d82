//! What storage does to records, without HTTP and SQL: reading, labelling, encrypting, laying out, checking.

pub mod anchoring;
pub mod author;
pub mod blob;
pub mod bundle;
pub mod capabilities;
pub mod criteria;
pub mod date_search;
pub mod days;
pub mod definitions;
pub mod encryption;
pub mod index;
pub mod issue;
pub mod moment;
pub mod overlay;
pub mod patch;
pub mod place;
pub mod plaintext;
pub mod primitive;
pub mod quota;
pub mod readable;
pub mod reference;
pub mod resource;
pub mod search;
pub mod segment;
pub mod subjects;
pub mod validation;
