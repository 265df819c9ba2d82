//! Pairing codes: 40 random bits that a patient shows a device, and what becomes of one.
//!
//! A claim binds nothing. The device that claimed it is paired when the patient compared fingerprints, signed a grant to it and
//! said so; the grant is the right.

use std::time::Duration;

use hbc_types::ids::DeviceId;
use hbc_types::secret::SecretText;
use hbc_types::wire::devices::PairingState;
use hbc_types::{Digest, Random, Timestamp};

use crate::domain::recovery::CROCKFORD;

/// How long a code can be claimed, and a claimed one be confirmed.
pub const LIFE: Duration = Duration::from_secs(10 * 60);
/// Codes of one patient that are open or claimed at once.
pub const MOST_OPEN: usize = 3;
/// Codes that one patient makes within a day.
pub const A_DAY: usize = 20;
/// Devices that one patient has paired.
pub const MOST_DEVICES: usize = 20;
/// Patients with whom one device is paired: gateways have hundreds.
pub const MOST_PATIENTS: usize = 1_000;

/// The bits of a code.
#[derive(Clone, PartialEq, Eq)]
pub struct Code([u8; 5]);

impl std::fmt::Debug for Code {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Code(…)")
    }
}

impl Code {
    /// A fresh one.
    #[must_use]
    pub fn random(random: &Random) -> Self {
        Self(random.bytes())
    }

    /// Its bits.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; 5] {
        &self.0
    }

    /// As people read it: `XXXX-XXXX` in Crockford's base 32.
    #[must_use]
    pub fn write(&self) -> SecretText {
        let mut text = CROCKFORD.encode(&self.0);
        text.insert(4, '-');
        SecretText::new(text)
    }

    /// Reads a written code: case, dashes and spaces do not matter, I and L read as 1, O as 0.
    #[must_use]
    pub fn parse(text: &SecretText) -> Option<Self> {
        let bytes = CROCKFORD.decode(text.expose().as_bytes()).ok()?;
        bytes.try_into().ok().map(Self)
    }
}

/// What became of a code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Until when the next step can be taken.
    pub expires_at: Timestamp,
    /// Who claimed it.
    pub device: Option<DeviceId>,
    /// When the patient confirmed it.
    pub confirmed_at: Option<Timestamp>,
    /// When it was ended.
    pub ended_at: Option<Timestamp>,
}

impl Progress {
    /// Of a new code.
    #[must_use]
    pub fn begin(now: Timestamp) -> Self {
        Self { expires_at: now.plus(LIFE), device: None, confirmed_at: None, ended_at: None }
    }

    /// How the code stands.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> PairingState {
        match self {
            Self { confirmed_at: Some(_), .. } => PairingState::Confirmed,
            Self { ended_at: Some(_), .. } => PairingState::Expired,
            _ if now >= self.expires_at => PairingState::Expired,
            Self { device: Some(_), .. } => PairingState::Claimed,
            Self { device: None, .. } => PairingState::Open,
        }
    }

    /// A device claims it. False if it is not open.
    pub fn claim(&mut self, device: &DeviceId, now: Timestamp) -> bool {
        let open = self.state(now) == PairingState::Open;
        if open {
            self.device = Some(device.clone());
            self.expires_at = now.plus(LIFE);
        }
        open
    }

    /// The patient says what fingerprint the device shows that claimed it, whose is `own`. False if it is another one: then it is
    /// over.
    pub fn confirm(&mut self, own: Digest, said: Digest, now: Timestamp) -> bool {
        let same = own == said;
        *(if same { &mut self.confirmed_at } else { &mut self.ended_at }) = Some(now);
        same
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_has_eight_characters_and_is_read_as_people_write_it() {
        let random = Random::seeded(11);
        for _code in 0..50 {
            let code = Code::random(&random);
            let text = code.write().expose().to_owned();
            assert_eq!((text.len(), text.find('-')), (9, Some(4)), "{text}");
            let sloppy = text.to_lowercase().replace('-', " ").replace('0', "o").replace('1', "l");
            assert_eq!(Code::parse(&SecretText::new(sloppy)), Some(code));
        }
        for bad in ["", "ABCD", "ABCD-EFG", "ABCD-EFGHJ", "ABCD-EFGU", "ABCD-EFG\u{e9}"] {
            assert_eq!(Code::parse(&SecretText::new(bad.to_owned())), None, "{bad}");
        }
    }

    #[test]
    fn a_code_goes_one_way() {
        let (start, device) = (Timestamp::from_ms(0), DeviceId::random(&Random::seeded(1)));
        let (own, other) = (Digest::of(b"own"), Digest::of(b"other"));
        let late = start.plus(LIFE);
        let mut code = Progress::begin(start);
        assert_eq!((code.state(start), code.state(late)), (PairingState::Open, PairingState::Expired));
        assert!(!code.clone().claim(&device, late));
        let nearly = late.minus(Duration::from_millis(1));
        assert!(code.claim(&device, nearly) && !code.claim(&device, nearly));
        assert_eq!((code.state(late), code.expires_at), (PairingState::Claimed, nearly.plus(LIFE)));
        assert_eq!(code.state(nearly.plus(LIFE)), PairingState::Expired);
        let mut wrong = code.clone();
        assert!(!wrong.confirm(own, other, late));
        assert_eq!(wrong.state(late), PairingState::Expired);
        assert!(code.confirm(own, own, late));
        assert_eq!(code.state(late.plus(LIFE)), PairingState::Confirmed);
    }
}
