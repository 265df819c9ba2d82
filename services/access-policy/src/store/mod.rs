//! All SQL of access-policy. Functions take the connection of a transaction and never
//! begin one: what belongs together is decided in `flows`.
//!
//! Rows that give or take rights are only read through functions that check their MAC, and only written through functions
//! that renew it.

pub mod accounts;
pub mod grants;
pub mod keys;
pub mod listings;
pub mod receipts;
pub mod requests;
pub mod rights;
pub mod roots;
pub mod sessions;
pub mod staff;

use hbc_db::Migration;

/// The schema, step by step.
pub const MIGRATIONS: &[Migration] = hbc_db::migrations![
    1 "accounts" "../../migrations/0001_accounts.sql",
    2 "consents" "../../migrations/0002_consents.sql",
    3 "keys" "../../migrations/0003_keys.sql",
    4 "receipts" "../../migrations/0004_receipts.sql",
    5 "ended grants" "../../migrations/0005_ended_grants.sql",
    6 "closing receipts" "../../migrations/0006_closing_receipts.sql",
    7 "staff" "../../migrations/0007_staff.sql",
    8 "affiliations" "../../migrations/0008_affiliations.sql",
    9 "sessions" "../../migrations/0009_sessions.sql",
    10 "grantees" "../../migrations/0010_grantees.sql",
    11 "void numbers" "../../migrations/0011_void_numbers.sql",
    13 "staff by commitment" "../../migrations/0013_staff_by_commitment.sql",
    14 "roots" "../../migrations/0014_roots.sql",
    12 "closed accounts" "../../migrations/0012_closed_accounts.sql",
];
