//! Passwords: which are taken, and how they are kept (Argon2id, PHC text).

use argon2::password_hash::phc::PasswordHash;
use argon2::{PasswordHasher, PasswordVerifier};
use hbc_types::Random;
use hbc_types::secret::SecretText;

use crate::domain::common_passwords::is_common;
use crate::domain::custody::{Cost, CustodyError};

/// Characters that a password has at least when it stands alone.
pub const MIN_ALONE: usize = 15;
/// Characters that it has at least beside a second factor.
pub const MIN_WITH_FACTOR: usize = 8;
/// Characters that it has at most; bytes are bounded by the body's size.
pub const MAX: usize = 256;

/// Why a new password is refused; the texts are shown to its owner.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum PasswordError {
    /// Too short without a second factor.
    #[error("needs at least 15 characters (8 once a second factor is set up)")]
    TooShort,
    /// Too long.
    #[error("has more than 256 characters")]
    TooLong,
    /// Among the first that anybody would try.
    #[error("is among the first that anybody would try")]
    Common,
    /// Control characters cannot be typed everywhere.
    #[error("holds control characters")]
    Control,
}

/// Checks a new password against the policy.
pub fn check_new(password: &SecretText, username: &str, second_factor: bool) -> Result<(), PasswordError> {
    let text = password.expose();
    let length = text.chars().count();
    let least = if second_factor { MIN_WITH_FACTOR } else { MIN_ALONE };
    if length < least {
        return Err(PasswordError::TooShort);
    }
    if length > MAX {
        return Err(PasswordError::TooLong);
    }
    if text.chars().any(char::is_control) {
        return Err(PasswordError::Control);
    }
    if is_common(text, username) { Err(PasswordError::Common) } else { Ok(()) }
}

/// The PHC text of `password`. Takes as long as Argon2id does: call it on the password pool.
pub fn hash(password: &SecretText, cost: Cost, random: &Random) -> Result<String, CustodyError> {
    let salt = random.bytes::<16>();
    let hash: PasswordHash = cost
        .argon2()?
        .hash_password_with_salt(password.expose().as_bytes(), &salt)
        .map_err(|_out_of_range| CustodyError::Cost)?;
    Ok(hash.to_string())
}

/// Whether `password` is the one of `phc`. A text that is no acceptable Argon2id hash matches nothing.
#[must_use]
pub fn matches(password: &SecretText, phc: &str) -> bool {
    let Ok(hash) = PasswordHash::new(phc) else { return false };
    let cost = |name: &str| hash.params.get_decimal(name).unwrap_or(u32::MAX);
    if hash.algorithm.as_str() != "argon2id" {
        return false;
    }
    let Ok(argon2) = (Cost { m_kib: cost("m"), t: cost("t"), p: cost("p") }).argon2() else { return false };
    argon2.verify_password(password.expose().as_bytes(), &hash).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHEAP: Cost = Cost { m_kib: 64, t: 1, p: 1 };

    fn secret(text: &str) -> SecretText {
        SecretText::new(text.to_owned())
    }

    #[test]
    fn length_counts_characters_and_depends_on_the_second_factor() {
        assert_eq!(check_new(&secret("häßlich größer!"), "bob", false), Ok(()));
        assert_eq!(check_new(&secret("tall birches"), "bob", false), Err(PasswordError::TooShort));
        assert_eq!(check_new(&secret("tall birches"), "bob", true), Ok(()));
        assert_eq!(check_new(&secret("birches"), "bob", true), Err(PasswordError::TooShort));
        assert_eq!(check_new(&secret(&"xy birch ".repeat(40)), "bob", true), Err(PasswordError::TooLong));
        assert_eq!(
            check_new(&secret("tall birches\u{0} and more"), "bob", true),
            Err(PasswordError::Control)
        );
        assert_eq!(check_new(&secret("passwordpassword"), "bob", false), Err(PasswordError::Common));
    }

    #[test]
    fn a_hash_matches_its_password_only() {
        let phc = hash(&secret("tall birches"), CHEAP, &Random::seeded(1)).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=64,t=1,p=1$"), "{phc}");
        assert!(matches(&secret("tall birches"), &phc));
        assert!(!matches(&secret("tall birch"), &phc));
        assert!(!matches(&secret("tall birches"), ""));
        assert!(!matches(&secret("tall birches"), &phc.replace("argon2id", "argon2i")));
        assert!(!matches(&secret("tall birches"), &phc.replace("m=64", "m=4000000")));
    }

    #[test]
    fn the_standard_cost_is_the_documented_one() {
        let phc = hash(&secret("tall birches"), Cost::STANDARD, &Random::seeded(1)).unwrap();
        assert!(phc.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{phc}");
    }
}
