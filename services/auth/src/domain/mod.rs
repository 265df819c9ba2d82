//! What auth knows without HTTP and without a database: passwords, custody of keys, codes, tokens, throttling,
//! passkeys, staff profiles and the checks before a consent is signed.

pub mod authorization;
pub mod bootstrap;
pub mod client;
pub mod common_passwords;
pub mod consent;
pub mod custody;
pub mod floors;
pub mod input;
pub mod pairing;
pub mod password;
pub mod recovery;
pub mod refresh;
pub mod roots;
pub mod staff;
pub mod throttle;
pub mod token;
pub mod totp;
pub mod webauthn;
