//! The second factor: TOTP (RFC 6238) with SHA-1, six digits, 30 seconds, one step of skew. A code is good once.

use data_encoding::BASE32_NOPAD;
use hbc_types::secret::{Key32, SecretText};
use hbc_types::{Random, Timestamp};
use qrcode::render::svg;
use qrcode::{EcLevel, QrCode};
use totp_rs::{Builder, Totp};
use zeroize::Zeroizing;

use crate::domain::custody::{CustodyError, encrypt_bytes, open_bytes, server_key};
use hbc_types::hash::aad;

/// Bytes of a TOTP secret (RFC 4226 asks for at least 16 and recommends 20).
pub const SECRET_BYTES: usize = 20;
const DOMAIN: &str = "hbc/totp/v1";

/// A fresh secret.
#[must_use]
pub fn generate(random: &Random) -> Zeroizing<[u8; SECRET_BYTES]> {
    Zeroizing::new(random.bytes())
}

/// The step that `code` is right for at `now`, if it is, and later than `last_step`: a code read over a shoulder is not
/// good a second time.
#[must_use]
pub fn check(secret: &[u8], code: &SecretText, now: Timestamp, last_step: i64) -> Option<i64> {
    let digits = code.expose().trim();
    if digits.len() != 6 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = now.unsigned_ms() / 1000;
    let step = i64::try_from(totp(secret).check(digits, seconds)?).ok()?;
    (step > last_step).then_some(step)
}

fn totp(secret: &[u8]) -> Totp {
    Builder::new().with_secret(secret.to_vec()).with_skew(1).build_noncompliant()
}

/// The code at `now`: for tests and for clients that hold the secret.
#[must_use]
pub fn code_at(secret: &[u8], now: Timestamp) -> String {
    totp(secret).generate(now.unsigned_ms() / 1000).to_string()
}

/// The `otpauth://` address for an authenticator app. Usernames and issuers hold no character that needs escaping.
#[must_use]
pub fn uri(secret: &[u8], issuer: &str, username: &str) -> SecretText {
    let secret = Zeroizing::new(BASE32_NOPAD.encode(secret));
    let issuer: String =
        issuer.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-')).collect();
    SecretText::new(format!(
        "otpauth://totp/{issuer}:{username}?secret={}&issuer={issuer}&algorithm=SHA1&digits=6&period=30",
        secret.as_str()
    ))
}

/// The address as a QR code: an SVG image, black on white. Nothing for one that is too long for a code.
#[must_use]
pub fn qr_svg(uri: &SecretText) -> Option<SecretText> {
    let code = QrCode::with_error_correction_level(uri.expose(), EcLevel::M).ok()?;
    let image = code.render::<svg::Color<'_>>().min_dimensions(240, 240).quiet_zone(true).build();
    Some(SecretText::new(image))
}

/// Encrypts a secret for the database, bound to its account.
pub fn encrypt(
    master: &Key32,
    account: &str,
    secret: &[u8],
    random: &Random,
) -> Result<([u8; 12], Vec<u8>), CustodyError> {
    encrypt_bytes(&server_key(master, DOMAIN)?, secret, &aad(DOMAIN, &[account.as_bytes()]), random)
}

/// Opens an encrypted secret of `account`.
pub fn open(
    master: &Key32,
    account: &str,
    nonce: &[u8; 12],
    encrypted: &[u8],
) -> Result<Zeroizing<Vec<u8>>, CustodyError> {
    open_bytes(&server_key(master, DOMAIN)?, nonce, encrypted, &aad(DOMAIN, &[account.as_bytes()]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_drawn_and_an_endless_one_is_not() {
        let drawn = qr_svg(&uri(&[7; 20], "HBC", "alice")).unwrap();
        assert!(drawn.expose().contains("<svg") && !drawn.expose().contains("alice"));
        assert_ne!(drawn.expose(), qr_svg(&uri(&[8; 20], "HBC", "alice")).unwrap().expose());
        assert!(qr_svg(&SecretText::new("x".repeat(4_000))).is_none());
    }

    /// RFC 6238, appendix B, SHA-1, cut to six digits.
    #[test]
    fn published_vectors() {
        let secret = b"12345678901234567890";
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (20_000_000_000, "353130")] {
            assert_eq!(code_at(secret, Timestamp::from_ms(seconds * 1000)), code);
        }
        assert_eq!(BASE32_NOPAD.encode(secret), "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ");
    }

    #[test]
    fn a_code_is_good_once_and_for_one_step_of_skew() {
        let secret = b"12345678901234567890";
        let now = Timestamp::from_ms(1_795_404_630_000);
        let code = SecretText::new(code_at(secret, now));
        let step = check(secret, &code, now, 0).unwrap();
        assert_eq!(check(secret, &code, now, step), None);
        assert_eq!(check(secret, &code, now.plus(std::time::Duration::from_secs(30)), 0), Some(step));
        assert_eq!(check(secret, &code, now.plus(std::time::Duration::from_secs(90)), 0), None);
        assert_eq!(check(secret, &SecretText::new("12345".to_owned()), now, 0), None);
    }

    #[test]
    fn an_encrypted_secret_opens_for_its_account_only() {
        let master = Key32::new([1; 32]);
        let random = Random::seeded(4);
        let secret = generate(&random);
        let (nonce, encrypted) = encrypt(&master, "pat-1", secret.as_slice(), &random).unwrap();
        assert_eq!(open(&master, "pat-1", &nonce, &encrypted).unwrap().as_slice(), secret.as_slice());
        assert!(open(&master, "pat-2", &nonce, &encrypted).is_err());
    }
}
