//! Accounts, passwords, sessions, tokens, agency approval, custody of signing keys.
