//! `hbc verify`: checks a receipt or record proof with nothing but the file, and what the caller trusts.
//!
//! It opens no connection and no database; everything it does is `hbc_types::chain::proof`.
