//! Access requests, grants, decisions, key hierarchy, receipts.
