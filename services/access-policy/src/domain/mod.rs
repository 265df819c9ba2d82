//! What this service decides and computes, without HTTP and without SQL.

pub mod consent;
pub mod decision;
pub mod floors;
pub mod grant;
pub mod keys;
pub mod numbers;
pub mod policy;
pub mod receipts;
pub mod rights;
pub mod root_claim;
pub mod roots;
pub mod scope;
pub mod staff;
