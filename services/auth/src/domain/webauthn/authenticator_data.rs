//! What an authenticator says and signs (WebAuthn Level 3 §6.1), and the attestation object around it (§6.5).

use ciborium::Value;

use super::fault::CeremonyError;

/// Bytes of a credential id at most (§7.1, step 25).
const MAX_ID: usize = 1023;
/// How deep CBOR may nest.
const DEPTH: usize = 8;

/// Whether a passkey can be on more than one device, and is (§6.1.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backup {
    /// It stays on its device.
    Never,
    /// It may be copied, and is not yet.
    Possible,
    /// It is.
    Done,
}

impl Backup {
    /// Each of them.
    const ALL: [Self; 3] = [Self::Never, Self::Possible, Self::Done];

    /// The code in the database.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Possible => "possible",
            Self::Done => "done",
        }
    }

    /// The one with this code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|backup| backup.code() == code)
    }

    /// Whether it can be on more than one device: an authenticator decides that for good when it makes it.
    #[must_use]
    pub const fn is_possible(self) -> bool {
        match self {
            Self::Never => false,
            Self::Possible | Self::Done => true,
        }
    }
}

/// Authenticator data, read and not yet believed.
#[derive(Clone, Copy, Debug)]
pub struct AuthenticatorData<'a> {
    /// SHA-256 of the relying party's id.
    pub rp_id_hash: &'a [u8],
    flags: u8,
    /// How often the authenticator signed; 0 where it does not count.
    pub sign_count: u32,
    /// The passkey that was made.
    pub made: Option<MadeKey<'a>>,
}

/// A passkey that was made (§6.5.1).
#[derive(Clone, Copy, Debug)]
pub struct MadeKey<'a> {
    /// The authenticator's id of it.
    pub id: &'a [u8],
    /// The COSE key.
    pub key: &'a [u8],
}

const PRESENT: u8 = 1;
const VERIFIED: u8 = 1 << 2;
const ELIGIBLE: u8 = 1 << 3;
const BACKED_UP: u8 = 1 << 4;
const HAS_KEY: u8 = 1 << 6;
const HAS_EXTENSIONS: u8 = 1 << 7;

impl<'a> AuthenticatorData<'a> {
    /// Reads it: to its end, and nothing behind.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CeremonyError> {
        Self::read(bytes).ok_or(CeremonyError::Malformed("authenticatorData"))
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (rp_id_hash, rest) = bytes.split_at_checked(32)?;
        let (flags, rest) = rest.split_first()?;
        let (count, mut rest) = rest.split_first_chunk()?;
        let made = if flags & HAS_KEY == 0 { None } else { Some(MadeKey::read(&mut rest)?) };
        if flags & HAS_EXTENSIONS != 0 && !matches!(value(&mut rest)?, Value::Map(_)) {
            return None;
        }
        let data = Self { rp_id_hash, flags: *flags, sign_count: u32::from_be_bytes(*count), made };
        rest.is_empty().then_some(data)
    }

    /// Checks that somebody was there and that the authenticator knows who; answers whether the passkey is backed up.
    pub fn check(&self) -> Result<Backup, CeremonyError> {
        if self.flags & PRESENT == 0 {
            return Err(CeremonyError::Presence);
        }
        if self.flags & VERIFIED == 0 {
            return Err(CeremonyError::Verification);
        }
        match (self.flags & ELIGIBLE != 0, self.flags & BACKED_UP != 0) {
            (false, false) => Ok(Backup::Never),
            (true, false) => Ok(Backup::Possible),
            (true, true) => Ok(Backup::Done),
            (false, true) => Err(CeremonyError::Backup),
        }
    }
}

impl<'a> MadeKey<'a> {
    fn read(rest: &mut &'a [u8]) -> Option<Self> {
        let (_make_of_the_authenticator, after) = rest.split_at_checked(16)?;
        let (length, after) = after.split_first_chunk()?;
        let length = usize::from(u16::from_be_bytes(*length));
        let (id, after) = after.split_at_checked(length).filter(|_| (1..=MAX_ID).contains(&length))?;
        let mut behind = after;
        value(&mut behind)?;
        let (key, _behind) = after.split_at_checked(after.len().checked_sub(behind.len())?)?;
        *rest = behind;
        Some(Self { id, key })
    }
}

/// The next CBOR value.
fn value(rest: &mut &[u8]) -> Option<Value> {
    ciborium::de::from_reader_with_recursion_limit(rest, DEPTH).ok()
}

/// How an authenticator proves its make (§6.5.4): not asked for, so that only these two come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attestation {
    /// Not at all (§8.7).
    None,
    /// By a signature of the new key itself (§8.2): algorithm and signature.
    OwnKey(i32, Vec<u8>),
}

/// An attestation object: the authenticator data, and how they are attested.
pub fn attestation_object(cbor: &[u8]) -> Result<(Vec<u8>, Attestation), CeremonyError> {
    let malformed = CeremonyError::Malformed("attestationObject");
    let mut rest = cbor;
    let map = match value(&mut rest) {
        Some(Value::Map(map)) if rest.is_empty() => map,
        _ => return Err(malformed),
    };
    let text = |name: &str| member(&map, name);
    let format = text("fmt").and_then(Value::as_text).ok_or(malformed)?;
    let statement = text("attStmt").and_then(Value::as_map).ok_or(malformed)?;
    let data = text("authData").and_then(Value::as_bytes).ok_or(malformed)?;
    let attestation = match format {
        "none" if statement.is_empty() => Attestation::None,
        // With `x5c` beside them the signature is of the maker's key.
        "packed" if member(statement, "x5c").is_none() => {
            let alg = member(statement, "alg").and_then(Value::as_integer);
            let alg = alg.and_then(|alg| i32::try_from(i128::from(alg)).ok()).ok_or(malformed)?;
            let signature = member(statement, "sig").and_then(Value::as_bytes).ok_or(malformed)?;
            Attestation::OwnKey(alg, signature.clone())
        }
        _ => return Err(CeremonyError::Attestation),
    };
    Ok((data.clone(), attestation))
}

fn member<'a>(map: &'a [(Value, Value)], name: &str) -> Option<&'a Value> {
    map.iter().find(|(key, _)| key.as_text() == Some(name)).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn data(flags: u8, rest: &[u8]) -> Vec<u8> {
        [[9; 32].as_slice(), &[flags], &7_u32.to_be_bytes(), rest].concat()
    }

    /// `{1: 2}` stands for a key here, `{"a": 1}` for extensions.
    const KEY: [u8; 3] = [0xa1, 1, 2];
    const EXTENSIONS: [u8; 4] = [0xa1, 0x61, b'a', 1];

    fn made(id: &[u8]) -> Vec<u8> {
        let length = u16::try_from(id.len()).unwrap().to_be_bytes();
        [[0; 16].as_slice(), &length, id, &KEY].concat()
    }

    #[test]
    fn it_is_read_to_its_end() {
        let bare = data(PRESENT | VERIFIED, &[]);
        let read = AuthenticatorData::parse(&bare).unwrap();
        assert_eq!((read.sign_count, read.rp_id_hash, read.made.is_none()), (7, [9; 32].as_slice(), true));
        let both = [made(b"id"), EXTENSIONS.to_vec()].concat();
        let whole = data(HAS_KEY | HAS_EXTENSIONS, &both);
        let key = AuthenticatorData::parse(&whole).unwrap().made.unwrap();
        assert_eq!((key.id, key.key), (b"id".as_slice(), KEY.as_slice()));
        for cut in 0..whole.len() {
            assert!(AuthenticatorData::parse(&whole[..cut]).is_err(), "{cut}");
        }
        for wrong in [
            data(0, &EXTENSIONS),
            data(HAS_KEY, &both),
            data(HAS_EXTENSIONS, &[1]),
            data(HAS_KEY, &made(&[])),
            data(HAS_KEY, &made(&[1; 1024])),
        ] {
            assert!(AuthenticatorData::parse(&wrong).is_err());
        }
    }

    #[test]
    fn somebody_must_have_been_there_and_be_known_to_it() {
        let check = |flags| AuthenticatorData::parse(&data(flags, &[])).unwrap().check();
        assert_eq!(check(PRESENT | VERIFIED), Ok(Backup::Never));
        assert_eq!(check(PRESENT | VERIFIED | ELIGIBLE), Ok(Backup::Possible));
        assert_eq!(check(PRESENT | VERIFIED | ELIGIBLE | BACKED_UP), Ok(Backup::Done));
        assert_eq!(check(PRESENT | VERIFIED | BACKED_UP), Err(CeremonyError::Backup));
        assert_eq!(check(VERIFIED), Err(CeremonyError::Presence));
        assert_eq!(check(PRESENT), Err(CeremonyError::Verification));
        for backup in Backup::ALL {
            assert_eq!(Backup::parse(backup.code()), Some(backup));
        }
    }

    fn object(format: &str, statement: Value) -> Vec<u8> {
        let text = |text: &str| Value::Text(text.to_owned());
        let map = vec![
            (text("fmt"), text(format)),
            (text("attStmt"), statement),
            (text("authData"), Value::Bytes(vec![5])),
        ];
        let mut bytes = Vec::new();
        ciborium::into_writer(&Value::Map(map), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn only_no_attestation_or_that_of_the_key_itself_is_taken() {
        let text = |text: &str| Value::Text(text.to_owned());
        let none = object("none", Value::Map(Vec::new()));
        assert_eq!(attestation_object(&none), Ok((vec![5], Attestation::None)));
        let own = vec![(text("alg"), Value::from(-7)), (text("sig"), Value::Bytes(vec![1]))];
        let taken = attestation_object(&object("packed", Value::Map(own.clone())));
        assert_eq!(taken, Ok((vec![5], Attestation::OwnKey(-7, vec![1]))));
        let maker = [own.clone(), vec![(text("x5c"), Value::Array(Vec::new()))]].concat();
        for (format, statement) in
            [("packed", maker), ("none", own.clone()), ("fido-u2f", own), ("", Vec::new())]
        {
            let refused = attestation_object(&object(format, Value::Map(statement)));
            assert_eq!(refused, Err(CeremonyError::Attestation), "{format}");
        }
        let malformed = Err(CeremonyError::Malformed("attestationObject"));
        assert_eq!(attestation_object(&[none, vec![0]].concat()), malformed);
        assert_eq!(attestation_object(&object("packed", Value::Map(Vec::new()))), malformed);
        // Deeper than anybody needs.
        assert_eq!(attestation_object(&[0x81; 4_000]), malformed);
    }

    proptest! {
        #[test]
        fn whatever_comes_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _read = AuthenticatorData::parse(&bytes).map(|data| data.check());
            let _read = attestation_object(&bytes);
        }
    }
}
