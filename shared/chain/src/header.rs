//! The 180-byte block header, its proof of work, and the encoding of a whole block.
//!
//! All numbers are big-endian: magic "HBC1" 4, version 2, flags 2 (zero), height 8, prev_hash 32, tx_root 32, log_root 32,
//! log_size 8, state_root 32, time_ms 8, target 4, miner 8, nonce 8. The block hash is SHA-256 of these bytes; the work is
//! done when that hash, read as a number, is at most the target.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest as _, Sha256};

use super::merkle;
use hbc_types::digest::Digest;
use hbc_types::keys::Kid;

/// Bytes of a header.
pub const HEADER_BYTES: usize = 180;
/// The first four bytes of every header.
pub const MAGIC: [u8; 4] = *b"HBC1";
/// The header's version.
pub const VERSION: u16 = 1;
/// Transactions in a block at most.
pub const MAX_TRANSACTIONS: usize = 16_384;
/// Bytes of an encoded block at most, header included.
pub const MAX_BLOCK_BYTES: usize = 8 * 1024 * 1024;

/// Why bytes are not a header, a target or a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeaderError {
    /// Not 180 bytes.
    #[error("a header has 180 bytes")]
    Length,
    /// Does not begin with "HBC1".
    #[error("a header begins with HBC1")]
    Magic,
    /// A version that this code does not know.
    #[error("unknown header version {0}")]
    Version(u16),
    /// Flags have no meaning yet.
    #[error("the flags of a header are zero")]
    Flags,
    /// Not the minimal compact form of a number from 1 to 2^256 - 1.
    #[error("not a target in minimal compact form")]
    Target,
    /// The hash is above the target.
    #[error("the proof of work is missing")]
    Work,
    /// More than [`MAX_BLOCK_BYTES`].
    #[error("a block has at most 8 MiB")]
    BlockTooLarge,
    /// More than [`MAX_TRANSACTIONS`].
    #[error("a block has at most 16384 transactions")]
    TooManyTransactions,
    /// The lengths inside a block do not add up to its bytes.
    #[error("the block's bytes do not end with its last transaction")]
    BlockLength,
}

/// A proof-of-work target in Bitcoin's compact form: one byte of length, three bytes of mantissa, minimal.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Target(u32);

impl Target {
    /// Accepts only the minimal form of a number from 1 to 2^256 - 1: mantissa positive, its first byte not zero unless
    /// the second has its top bit set.
    ///
    /// # Errors
    /// [`HeaderError::Target`].
    pub(crate) const fn from_compact(compact: u32) -> Result<Self, HeaderError> {
        let length = compact >> 24;
        let mantissa = compact & 0x00ff_ffff;
        let negative = mantissa & 0x0080_0000 != 0;
        let minimal = mantissa >= 0x8000;
        // A mantissa below 2^16 needs one byte less than its length says, so 33 is possible.
        let fits = length >= 3 && (length <= 32 || (length == 33 && mantissa <= 0xffff));
        if negative || !minimal || !fits { Err(HeaderError::Target) } else { Ok(Self(compact)) }
    }

    /// The largest target whose hashes all begin with `bits` zero bits, as exactly as the compact form can say (0 to 232).
    ///
    /// # Errors
    /// [`HeaderError::Target`] for more than 232 bits.
    pub const fn from_zero_bits(bits: u32) -> Result<Self, HeaderError> {
        if bits > 232 {
            return Err(HeaderError::Target);
        }
        // The number 2^(256-bits) - 1, cut to a mantissa of 16 to 23 bits.
        let significant = 256 - bits;
        let mut length = significant.div_ceil(8);
        let top = significant - (length - 1) * 8;
        let mut mantissa = (1_u32 << (top + 16)) - 1;
        if mantissa & 0x0080_0000 != 0 {
            mantissa >>= 8;
            length += 1;
        }
        Self::from_compact(length << 24 | mantissa)
    }

    /// The compact form.
    #[must_use]
    pub const fn compact(self) -> u32 {
        self.0
    }

    /// The number itself, 32 bytes big-endian.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 32] {
        let [length, mantissa @ ..] = self.0.to_be_bytes();
        let mut bytes = [0; 32];
        for (place, byte) in (0_u8..).zip(mantissa) {
            // The mantissa's first byte has the weight 256^(length - 1).
            let at = 32_u8.checked_sub(length.saturating_sub(place)).map(usize::from);
            if let Some(slot) = at.and_then(|at| bytes.get_mut(at)) {
                *slot = byte;
            }
        }
        bytes
    }

    /// Whether a hash does the work.
    #[must_use]
    pub fn admits(self, hash: &Digest) -> bool {
        *hash.as_bytes() <= self.to_bytes()
    }

    /// Zero bits that every admitted hash begins with.
    #[must_use]
    pub fn zero_bits(self) -> u32 {
        leading_zero_bits(&self.to_bytes())
    }
}

impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({:08x})", self.0)
    }
}

/// Zero bits that the bytes begin with.
#[must_use]
pub fn leading_zero_bits(bytes: &[u8; 32]) -> u32 {
    let mut bits = 0;
    for byte in bytes {
        bits += byte.leading_zeros();
        if *byte != 0 {
            break;
        }
    }
    bits
}

/// The short name of a miner in a header: the first 8 bytes of its key's fingerprint.
#[must_use]
pub fn miner_id(kid: &Kid) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = *kid.as_bytes();
    [a, b, c, d, e, f, g, h]
}

/// A block header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// 0 for the genesis block, then one more each.
    pub height: u64,
    /// Hash of the block before; of genesis.json in block 0.
    pub prev_hash: Digest,
    /// RFC 6962 root over this block's transactions.
    pub tx_root: Digest,
    /// RFC 6962 root over all leaves so far, this block's included.
    pub log_root: Digest,
    /// How many leaves those are.
    pub log_size: u64,
    /// The state after this block.
    pub state_root: Digest,
    /// Unix milliseconds.
    pub time_ms: u64,
    /// The target that the hash must not exceed.
    pub target: Target,
    /// First 8 bytes of the miner's key fingerprint; zero in block 0.
    pub miner: [u8; 8],
    /// What the work found; zero in block 0.
    pub nonce: u64,
}

impl Header {
    /// The 180 bytes.
    #[must_use]
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let Self {
            height,
            prev_hash,
            tx_root,
            log_root,
            log_size,
            state_root,
            time_ms,
            target,
            miner,
            nonce,
        } = self;
        let mut bytes = [0; HEADER_BYTES];
        let fields = [
            MAGIC.as_slice(),
            &VERSION.to_be_bytes(),
            &[0, 0],
            &height.to_be_bytes(),
            prev_hash.as_bytes(),
            tx_root.as_bytes(),
            log_root.as_bytes(),
            &log_size.to_be_bytes(),
            state_root.as_bytes(),
            &time_ms.to_be_bytes(),
            &target.compact().to_be_bytes(),
            miner,
            &nonce.to_be_bytes(),
        ];
        for (slot, byte) in bytes.iter_mut().zip(fields.into_iter().flatten()) {
            *slot = *byte;
        }
        bytes
    }

    /// Reads exactly 180 bytes of a known version with a minimal target. Does not check the work.
    ///
    /// # Errors
    /// What does not fit.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        let bytes: &[u8; HEADER_BYTES] = bytes.try_into().map_err(|_other_length| HeaderError::Length)?;
        let mut rest = Reader(bytes);
        if rest.take::<4>()? != MAGIC {
            return Err(HeaderError::Magic);
        }
        let version = u16::from_be_bytes(rest.take()?);
        if version != VERSION {
            return Err(HeaderError::Version(version));
        }
        if rest.take::<2>()? != [0, 0] {
            return Err(HeaderError::Flags);
        }
        Ok(Self {
            height: u64::from_be_bytes(rest.take()?),
            prev_hash: Digest::from_bytes(rest.take()?),
            tx_root: Digest::from_bytes(rest.take()?),
            log_root: Digest::from_bytes(rest.take()?),
            log_size: u64::from_be_bytes(rest.take()?),
            state_root: Digest::from_bytes(rest.take()?),
            time_ms: u64::from_be_bytes(rest.take()?),
            target: Target::from_compact(u32::from_be_bytes(rest.take()?))?,
            miner: rest.take()?,
            nonce: u64::from_be_bytes(rest.take()?),
        })
    }

    /// SHA-256 of the 180 bytes.
    #[must_use]
    pub fn hash(&self) -> Digest {
        Digest::of(&self.to_bytes())
    }

    /// The header as a leaf of the log: the first leaf of the next block.
    #[must_use]
    pub fn leaf_hash(&self) -> Digest {
        merkle::leaf_hash(&self.to_bytes())
    }

    /// That the hash is at most the target.
    ///
    /// # Errors
    /// [`HeaderError::Work`].
    pub fn check_work(&self) -> Result<(), HeaderError> {
        if self.target.admits(&self.hash()) { Ok(()) } else { Err(HeaderError::Work) }
    }

    /// Searches from the header's nonce on for one that does the work; looks at `stop` every 4,096 tries. None when stopped
    /// or when all nonces are used up.
    #[must_use]
    pub fn mine(&self, stop: &AtomicBool) -> Option<Self> {
        let mut bytes = self.to_bytes();
        let target = self.target.to_bytes();
        // The 128 bytes before the last block of SHA-256 never change: hash them once.
        let mut fixed = Sha256::new();
        let (head, tail) = bytes.split_at_mut(HEADER_BYTES - 8);
        fixed.update(&*head);
        for tries in 0_u64..=u64::MAX {
            if tries.trailing_zeros() >= 12 && stop.load(Ordering::Relaxed) {
                return None;
            }
            let nonce = self.nonce.checked_add(tries)?;
            tail.copy_from_slice(&nonce.to_be_bytes());
            let mut hasher = fixed.clone();
            hasher.update(&*tail);
            let hash: [u8; 32] = hasher.finalize().into();
            if hash <= target {
                return Some(Self { nonce, ..*self });
            }
        }
        None
    }
}

/// A header inside JSON: 360 lowercase hex digits.
impl Serialize for Header {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.to_bytes()))
    }
}

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let lower = text.len() == 2 * HEADER_BYTES && !text.bytes().any(|byte| byte.is_ascii_uppercase());
        let bytes = lower.then(|| hex::decode(&text).ok()).flatten();
        let bytes = bytes.ok_or_else(|| D::Error::custom("a header is 360 lowercase hex digits"))?;
        Self::from_bytes(&bytes).map_err(D::Error::custom)
    }
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Result<[u8; N], HeaderError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(HeaderError::BlockLength)?;
        self.0 = rest;
        Ok(*head)
    }

    fn slice(&mut self, length: u32) -> Result<&'a [u8], HeaderError> {
        let length = usize::try_from(length).map_err(|_too_large| HeaderError::BlockLength)?;
        let (head, rest) = self.0.split_at_checked(length).ok_or(HeaderError::BlockLength)?;
        self.0 = rest;
        Ok(head)
    }
}

/// A block: its header and its transactions as they were signed. Decoding checks form and limits only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The header.
    pub header: Header,
    /// The transactions' bytes, compact JWS.
    pub transactions: Vec<Vec<u8>>,
}

impl Block {
    /// `header ‖ u32 count ‖ for each transaction: u32 length ‖ bytes`.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.encoded_len());
        bytes.extend_from_slice(&self.header.to_bytes());
        bytes.extend_from_slice(&u32::try_from(self.transactions.len()).unwrap_or(u32::MAX).to_be_bytes());
        for transaction in &self.transactions {
            bytes.extend_from_slice(&u32::try_from(transaction.len()).unwrap_or(u32::MAX).to_be_bytes());
            bytes.extend_from_slice(transaction);
        }
        bytes
    }

    /// How many bytes [`Self::to_bytes`] makes.
    #[must_use]
    pub fn encoded_len(&self) -> usize {
        self.transactions.iter().fold(HEADER_BYTES + 4, |sum, transaction| {
            sum.saturating_add(4).saturating_add(transaction.len())
        })
    }

    /// Reads one block and nothing after it.
    ///
    /// # Errors
    /// When it is over a limit, or its lengths do not add up.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, HeaderError> {
        if bytes.len() > MAX_BLOCK_BYTES {
            return Err(HeaderError::BlockTooLarge);
        }
        let (header, body) = bytes.split_at_checked(HEADER_BYTES).ok_or(HeaderError::Length)?;
        let header = Header::from_bytes(header)?;
        let mut rest = Reader(body);
        let count = u32::from_be_bytes(rest.take()?);
        if usize::try_from(count).map_or(true, |count| count > MAX_TRANSACTIONS) {
            return Err(HeaderError::TooManyTransactions);
        }
        let mut transactions = Vec::new();
        for _ in 0..count {
            let length = u32::from_be_bytes(rest.take()?);
            transactions.push(rest.slice(length)?.to_vec());
        }
        if rest.0.is_empty() { Ok(Self { header, transactions }) } else { Err(HeaderError::BlockLength) }
    }

    /// The transactions' ids: their RFC 6962 leaf hashes.
    #[must_use]
    pub fn txids(&self) -> Vec<Digest> {
        self.transactions.iter().map(|bytes| merkle::leaf_hash(bytes)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    pub(crate) fn sample() -> Header {
        Header {
            height: 1,
            prev_hash: Digest::of(b"prev"),
            tx_root: Digest::of(b"tx"),
            log_root: Digest::of(b"log"),
            log_size: 2,
            state_root: Digest::of(b"state"),
            time_ms: 1_790_000_000_000,
            target: Target::from_zero_bits(8).unwrap(),
            miner: [1, 2, 3, 4, 5, 6, 7, 8],
            nonce: 0,
        }
    }

    /// The vector of docs/FORMATS.md.
    #[test]
    fn golden_header() {
        let header = sample().mine(&AtomicBool::new(false)).unwrap();
        assert_eq!(
            hex::encode(header.to_bytes()),
            "4842433100010000000000000000000184fd9bac333ad79154348296204fa7f8c537a96e08983e5f73b3f5aca8e8edf71b5b9ccb3e8d006a5230de9bda23ff91edc794d4f56410560830b418528e446c836ff184e7b41b1e13cb5fd89fa1de98dbbab99e9d2918913ff43b86a5c7c21300000000000000024ba69735ca53765ed6a709edb56c6ea236b7193a3b29a6b390c346f0f4340e4e000001a0c4506c002000ffff01020304050607080000000000000080"
        );
        assert_eq!(
            header.hash().to_string(),
            "00f1406e16817401dadbec754bcf98dd4ece2e3dde6d942e47a76b0c44bb4972"
        );
    }

    #[test]
    fn targets_are_minimal_and_mean_their_bits() {
        for (bits, compact) in [(0, 0x2100_ffff), (8, 0x2000_ffff), (20, 0x1e0f_ffff), (32, 0x1d00_ffff)] {
            let target = Target::from_zero_bits(bits).unwrap();
            assert_eq!(target.compact(), compact, "{bits}: {target:?}");
        }
        for bits in 0..=232 {
            assert_eq!(Target::from_zero_bits(bits).unwrap().zero_bits(), bits);
        }
        assert!(Target::from_zero_bits(233).is_err());
        let bytes = Target::from_compact(0x1d00_ffff).unwrap().to_bytes();
        assert_eq!(hex::encode(bytes), format!("00000000ffff{}", "0".repeat(52)));
        for bad in
            [0, 0x1d00_0000, 0x1e00_00ff, 0x1e00_7fff, 0x1d80_0000, 0x02ff_ff00, 0x2101_0000, 0x2200_ffff]
        {
            assert_eq!(Target::from_compact(bad), Err(HeaderError::Target), "{bad:08x}");
        }
    }

    #[test]
    fn one_bit_too_little_work_is_refused() {
        let mut header = sample();
        header.target = Target::from_zero_bits(9).unwrap();
        let stop = AtomicBool::new(false);
        let mined = header.mine(&stop).unwrap();
        assert_eq!(mined.check_work(), Ok(()));
        // A hash with exactly one leading zero bit less than the target wants.
        let weak = (0..).map(|nonce| Header { nonce, ..header });
        let weak = weak.into_iter().find(|h| leading_zero_bits(h.hash().as_bytes()) == 8).unwrap();
        assert_eq!(weak.check_work(), Err(HeaderError::Work));
    }

    #[test]
    fn mining_stops_when_told() {
        let header = Header { target: Target::from_zero_bits(200).unwrap(), ..sample() };
        assert_eq!(header.mine(&AtomicBool::new(true)), None);
        let last = Header { nonce: u64::MAX, ..header };
        assert_eq!(last.mine(&AtomicBool::new(false)), None);
    }

    #[test]
    fn strange_headers_are_refused() {
        let bytes = sample().to_bytes();
        assert_eq!(Header::from_bytes(&bytes), Ok(sample()));
        assert_eq!(Header::from_bytes(&bytes[1..]), Err(HeaderError::Length));
        for (at, error) in [
            (0, HeaderError::Magic),
            (5, HeaderError::Version(0)),
            (7, HeaderError::Flags),
            (161, HeaderError::Target),
        ] {
            let mut bytes = bytes;
            bytes[at] ^= 1;
            if at == 161 {
                bytes[at] = 0xff;
            }
            assert_eq!(Header::from_bytes(&bytes), Err(error));
        }
    }

    #[test]
    fn blocks_decode_strictly() {
        let block =
            Block { header: sample(), transactions: vec![b"one".to_vec(), Vec::new(), b"two".to_vec()] };
        let bytes = block.to_bytes();
        assert_eq!(bytes.len(), block.encoded_len());
        assert_eq!(Block::from_bytes(&bytes), Ok(block));
        for cut in 0..bytes.len() {
            assert!(Block::from_bytes(&bytes[..cut]).is_err());
        }
        assert_eq!(Block::from_bytes(&[&bytes[..], &[0]].concat()), Err(HeaderError::BlockLength));
        let mut many = sample().to_bytes().to_vec();
        many.extend_from_slice(&16_385_u32.to_be_bytes());
        many.extend_from_slice(&[0; 4 * 16_385]);
        assert_eq!(Block::from_bytes(&many), Err(HeaderError::TooManyTransactions));
        assert_eq!(Block::from_bytes(&vec![0; MAX_BLOCK_BYTES + 1]), Err(HeaderError::BlockTooLarge));
    }

    proptest! {
        #[test]
        fn any_bit_changes_the_header_hash_or_is_refused(bit in 0_usize..HEADER_BYTES * 8) {
            let mut bytes = sample().to_bytes();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(header) = Header::from_bytes(&bytes) {
                prop_assert_eq!(header.to_bytes(), bytes);
                prop_assert_ne!(header.hash(), sample().hash());
            }
        }

        #[test]
        fn compact_targets_keep_their_number(compact in any::<u32>()) {
            if let Ok(target) = Target::from_compact(compact) {
                let bytes = target.to_bytes();
                prop_assert_ne!(bytes, [0; 32]);
                let significant = 32 - bytes.iter().position(|byte| *byte != 0).unwrap();
                let length = (compact >> 24) as usize;
                prop_assert!(significant == length || significant + 1 == length);
            }
        }
    }
}
