//! Checkpoints: the text that members sign for a block, and the certificate that more than two thirds of them make.
//!
//! The text is the body of a C2SP checkpoint with one extension line:
//! ```text
//! <consortium>/hbc/<chain id[..16]>
//! <log size>
//! <base64 log root>
//! hbc-block <height> <round> <block hash>
//! ```
//! The certificate is the C2SP signed note of it: an empty line, then one line `— <origin>/<member> <base64 of key id and
//! signature>` per signer, in the order of the members' names. The key id is SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key)[..4].

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest as _, Sha256};

use super::genesis::{MAX_MEMBERS, Named};
use super::header::Header;
use super::names::is_name;
use hbc_types::digest::Digest;
use hbc_types::keys::{Kid, PublicKey, SignatureBytes};

/// Bytes of a note at most: the body and a line for each of 100 members.
pub const MAX_NOTE_BYTES: usize = 64 * 1024;

/// Why a text is no checkpoint, or a note no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CheckpointError {
    /// The text or note deviates from its one form.
    #[error("not a checkpoint: {0}")]
    Form(&'static str),
    /// The checkpoint is of another log.
    #[error("the checkpoint is of the log `{0}`")]
    Origin(String),
    /// A signer is not a member.
    #[error("signed by `{0}`, who is no member at this height")]
    Stranger(String),
    /// Signatures are not in member order, or one stands twice.
    #[error("the signatures are not in the order of the members, each once")]
    Order,
    /// A signature does not fit.
    #[error("the signature of `{0}` does not fit")]
    Signature(String),
    /// Not more than two thirds.
    #[error("{signed} of {members} members signed; more than two thirds are needed")]
    TooFew {
        /// Valid signatures.
        signed: usize,
        /// Members at this height.
        members: usize,
    },
}

/// What is agreed upon at a height: the block's hash and the log's size and root after it, which together
/// are what the checkpoint states.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BlockId {
    /// SHA-256 of the block's header.
    pub hash: Digest,
    /// Leaves of the log, this block's included.
    pub log_size: u64,
    /// RFC 6962 root over them.
    pub log_root: Digest,
}

impl BlockId {
    /// What is agreed upon when a block with this header is.
    #[must_use]
    pub fn of(header: &Header) -> Self {
        Self { hash: header.hash(), log_size: header.log_size, log_root: header.log_root }
    }
}

impl fmt::Display for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.hash, self.log_size, self.log_root)
    }
}

impl fmt::Debug for BlockId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.hash.as_bytes().iter().take(4) {
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

/// The statement that members certify for a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// The log's name.
    pub origin: String,
    /// Leaves in the log after the block.
    pub log_size: u64,
    /// RFC 6962 root over them.
    pub log_root: Digest,
    /// The block's height.
    pub height: u64,
    /// The round of consensus that decided it.
    pub round: u32,
    /// SHA-256 of the block's header.
    pub block: Digest,
}

impl Checkpoint {
    /// The checkpoint of the block with this header, decided in this round.
    #[must_use]
    pub fn of(origin: &str, header: &Header, round: u32) -> Self {
        Self {
            origin: origin.to_owned(),
            log_size: header.log_size,
            log_root: header.log_root,
            height: header.height,
            round,
            block: header.hash(),
        }
    }

    /// The text, which is what is signed: four lines, each ended by a line feed.
    #[must_use]
    pub fn body(&self) -> String {
        let Self { origin, log_size, log_root, height, round, block } = self;
        let log_root = STANDARD.encode(log_root.as_bytes());
        format!("{origin}\n{log_size}\n{log_root}\nhbc-block {height} {round} {block}\n")
    }

    /// Reads a text in its one form.
    ///
    /// # Errors
    /// [`CheckpointError::Form`].
    pub fn parse(body: &str) -> Result<Self, CheckpointError> {
        let mut lines =
            body.strip_suffix('\n').ok_or(CheckpointError::Form("no line feed at the end"))?.split('\n');
        let (Some(origin), Some(size), Some(root), Some(block), None) =
            (lines.next(), lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(CheckpointError::Form("not four lines"));
        };
        if !origin_fits(origin) {
            return Err(CheckpointError::Form("not an origin"));
        }
        let root = STANDARD.decode(root).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
        let mut fields = block.split(' ');
        let (Some("hbc-block"), Some(height), Some(round), Some(hash), None) =
            (fields.next(), fields.next(), fields.next(), fields.next(), fields.next())
        else {
            return Err(CheckpointError::Form("not an hbc-block line"));
        };
        let checkpoint = Self {
            origin: origin.to_owned(),
            log_size: number(size)?,
            log_root: Digest::from_bytes(root.ok_or(CheckpointError::Form("not a root"))?),
            height: number(height)?,
            round: u32::try_from(number(round)?).map_err(|_large| CheckpointError::Form("not a round"))?,
            block: Digest::parse(hash).map_err(|_no_hash| CheckpointError::Form("not a block hash"))?,
        };
        if checkpoint.body() == body {
            Ok(checkpoint)
        } else {
            Err(CheckpointError::Form("not its one form"))
        }
    }

    /// A member's signature for the block.
    #[must_use]
    pub fn sign(&self, key: &ed25519_dalek::SigningKey) -> SignatureBytes {
        SignatureBytes::sign(key, self.body().as_bytes())
    }
}

fn number(text: &str) -> Result<u64, CheckpointError> {
    match text.parse::<u64>() {
        Ok(number) if number.to_string() == text => Ok(number),
        _ => Err(CheckpointError::Form("not a plain decimal number")),
    }
}

/// `<consortium>/hbc/<16 hex>`.
fn origin_fits(origin: &str) -> bool {
    origin.len() <= 200
        && origin.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'/'))
        && !origin.is_empty()
}

/// The C2SP key id of a member: SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key)[..4], where the name is `<origin>/<member>`.
#[must_use]
pub fn key_id(name: &str, key: &PublicKey) -> [u8; 4] {
    let mut hasher = Sha256::new();
    hasher.update(name.as_bytes());
    hasher.update([0x0a, 0x01]);
    hasher.update(key.as_bytes());
    let hash: [u8; 32] = hasher.finalize().into();
    let [a, b, c, d, ..] = hash;
    [a, b, c, d]
}

/// The member's verifier key as C2SP tools read it: `<name>+<key id hex>+<base64 of 0x01 ‖ key>`.
#[must_use]
pub fn verifier_key(origin: &str, member: &Named) -> String {
    let name = format!("{origin}/{}", member.name);
    let mut typed = vec![1];
    typed.extend_from_slice(member.key.as_bytes());
    format!("{name}+{}+{}", hex::encode(key_id(&name, &member.key)), STANDARD.encode(typed))
}

/// Votes that are more than two thirds of `members`.
#[must_use]
pub const fn quorum(members: usize) -> usize {
    members * 2 / 3 + 1
}

/// One line of a note.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoteSignature {
    /// The member's name.
    pub member: String,
    /// The key id that stands before the signature.
    pub key_id: [u8; 4],
    /// The signature over the body.
    pub signature: SignatureBytes,
}

/// A checkpoint with the members' signatures. Parsing checks form; [`Certificate::check`] makes it count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// What is signed.
    pub checkpoint: Checkpoint,
    /// Who signed, in the order of their names.
    pub signatures: Vec<NoteSignature>,
}

impl Certificate {
    /// Puts votes together: signatures by key fingerprint, of which those of members are taken, in member order.
    #[must_use]
    pub fn assemble(checkpoint: Checkpoint, votes: &[(Kid, SignatureBytes)], members: &[Named]) -> Self {
        let mut signatures = Vec::with_capacity(votes.len());
        for member in members {
            let kid = member.kid();
            if let Some((_, signature)) = votes.iter().find(|(voter, _)| *voter == kid) {
                let name = format!("{}/{}", checkpoint.origin, member.name);
                signatures.push(NoteSignature {
                    member: member.name.clone(),
                    key_id: key_id(&name, &member.key),
                    signature: *signature,
                });
            }
        }
        Self { checkpoint, signatures }
    }

    /// The signed note.
    #[must_use]
    pub fn to_note(&self) -> String {
        let mut note = self.checkpoint.body();
        note.push('\n');
        for line in &self.signatures {
            let mut bytes = line.key_id.to_vec();
            bytes.extend_from_slice(line.signature.as_bytes());
            note.push_str("— ");
            note.push_str(&self.checkpoint.origin);
            note.push('/');
            note.push_str(&line.member);
            note.push(' ');
            STANDARD.encode_string(bytes, &mut note);
            note.push('\n');
        }
        note
    }

    /// Reads a signed note in its one form: body, empty line, signature lines.
    ///
    /// # Errors
    /// [`CheckpointError::Form`].
    pub fn parse(note: &str) -> Result<Self, CheckpointError> {
        if note.len() > MAX_NOTE_BYTES {
            return Err(CheckpointError::Form("too long"));
        }
        let (body, lines) = note.split_once("\n\n").ok_or(CheckpointError::Form("no empty line"))?;
        let checkpoint = Checkpoint::parse(&format!("{body}\n"))?;
        let lines = lines.strip_suffix('\n').ok_or(CheckpointError::Form("no line feed at the end"))?;
        let mut signatures = Vec::new();
        for line in lines.split('\n') {
            let rest = line.strip_prefix("— ").ok_or(CheckpointError::Form("not a signature line"))?;
            let (name, base64) = rest.split_once(' ').ok_or(CheckpointError::Form("not a signature line"))?;
            let member = name.strip_prefix(&checkpoint.origin).and_then(|rest| rest.strip_prefix('/'));
            let member = member.filter(|member| is_name(member));
            let member = member.ok_or(CheckpointError::Form("a signer is not of this log"))?.to_owned();
            let bytes = STANDARD.decode(base64).ok().and_then(|bytes| <[u8; 68]>::try_from(bytes).ok());
            let [a, b, c, d, signature @ ..] = bytes.ok_or(CheckpointError::Form("not a signature"))?;
            signatures.push(NoteSignature {
                member,
                key_id: [a, b, c, d],
                signature: SignatureBytes::from_bytes(signature),
            });
        }
        if signatures.len() > MAX_MEMBERS {
            return Err(CheckpointError::Form("too many signatures"));
        }
        let certificate = Self { checkpoint, signatures };
        if certificate.to_note() == note {
            Ok(certificate)
        } else {
            Err(CheckpointError::Form("not its one form"))
        }
    }

    /// That it certifies: the right log; members of this height, in order, each once; every signature fits; more than two
    /// thirds of the members.
    ///
    /// # Errors
    /// The first that does not hold.
    pub fn check(&self, origin: &str, members: &[Named]) -> Result<(), CheckpointError> {
        if self.checkpoint.origin != origin {
            return Err(CheckpointError::Origin(self.checkpoint.origin.clone()));
        }
        if !self.signatures.is_sorted_by(|one, next| one.member < next.member) {
            return Err(CheckpointError::Order);
        }
        let body = self.checkpoint.body();
        for line in &self.signatures {
            let member = members
                .iter()
                .find(|member| member.name == line.member)
                .ok_or_else(|| CheckpointError::Stranger(line.member.clone()))?;
            let name = format!("{origin}/{}", member.name);
            let fits = key_id(&name, &member.key) == line.key_id
                && member.key.verify(body.as_bytes(), &line.signature).is_ok();
            if !fits {
                return Err(CheckpointError::Signature(line.member.clone()));
            }
        }
        if self.signatures.len() < quorum(members.len()) {
            return Err(CheckpointError::TooFew { signed: self.signatures.len(), members: members.len() });
        }
        Ok(())
    }

    /// Votes by fingerprint, as consensus keeps them. Signers that are not in `members` are left out.
    #[must_use]
    pub fn votes(&self, members: &[Named]) -> Vec<(Kid, SignatureBytes)> {
        let kid = |name: &str| members.iter().find(|member| member.name == name).map(Named::kid);
        self.signatures.iter().filter_map(|line| Some((kid(&line.member)?, line.signature))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::genesis::log_origin;
    use crate::testing::{genesis as sample, key, note};
    use proptest::prelude::*;

    fn checkpoint() -> Checkpoint {
        let genesis = sample(4);
        Checkpoint {
            origin: log_origin(&genesis.origin, &genesis.chain_id().unwrap()),
            log_size: 7,
            log_root: Digest::of(b"log"),
            height: 3,
            round: 0,
            block: Digest::of(b"block"),
        }
    }

    fn certificate(signers: &[u8]) -> Certificate {
        let signers: Vec<_> = signers.iter().copied().map(key).collect();
        Certificate::parse(&note(checkpoint(), &signers, &sample(4).members)).unwrap()
    }

    fn check(certificate: &Certificate) -> Result<(), CheckpointError> {
        certificate.check(&checkpoint().origin, &sample(4).members)
    }

    /// The vectors of docs/FORMATS.md.
    #[test]
    fn golden_note() {
        let note = certificate(&[1, 2, 4]).to_note();
        assert_eq!(note, include_str!("../tests/data/checkpoint.txt"));
        let vkey = verifier_key(&checkpoint().origin, &sample(4).members[0]);
        assert_eq!(
            vkey,
            "hbc.example/hbc/0341e8558097e9aa/node-1+cb4912c0+AYqI4910CfGV/VLbLTy6XXLKZwm/HZQSG/N0iAG0D29c"
        );
        let parsed = Certificate::parse(&note).unwrap();
        assert_eq!(parsed, certificate(&[4, 1, 2]));
        assert_eq!(check(&parsed), Ok(()));
        assert_eq!(parsed.votes(&sample(4).members).len(), 3);
    }

    #[test]
    fn more_than_two_thirds_of_the_members_are_needed() {
        assert_eq!(check(&certificate(&[1, 2, 3, 4])), Ok(()));
        assert_eq!(check(&certificate(&[1, 2])), Err(CheckpointError::TooFew { signed: 2, members: 4 }));
        for (members, needed) in [(1, 1), (2, 2), (3, 3), (4, 3), (5, 4), (6, 5), (7, 5)] {
            assert_eq!(quorum(members), needed, "{members}");
        }
    }

    #[test]
    fn strangers_doubles_disorder_and_other_logs_are_refused() {
        let mut twice = certificate(&[1, 2]);
        twice.signatures.push(twice.signatures[1].clone());
        assert_eq!(check(&twice), Err(CheckpointError::Order));
        let mut swapped = certificate(&[1, 2, 3]);
        swapped.signatures.swap(0, 1);
        assert_eq!(check(&swapped), Err(CheckpointError::Order));
        let mut stranger = certificate(&[1, 2, 3]);
        stranger.signatures[2].member = "node-9".into();
        assert_eq!(check(&stranger), Err(CheckpointError::Stranger("node-9".into())));
        let other = certificate(&[1, 2, 3]).check("hbc.example/hbc/fedcba9876543210", &sample(4).members);
        assert!(matches!(other, Err(CheckpointError::Origin(_))));
        let mut moved = certificate(&[1, 2, 3]);
        moved.checkpoint.round = 1;
        assert_eq!(check(&moved), Err(CheckpointError::Signature("node-1".into())));
        let mut key_id = certificate(&[1, 2, 3]);
        key_id.signatures[0].key_id[0] ^= 1;
        assert_eq!(check(&key_id), Err(CheckpointError::Signature("node-1".into())));
    }

    #[test]
    fn there_is_one_form_of_a_note() {
        let note = certificate(&[1, 2, 3]).to_note();
        for bad in [
            note.replace("\n7\n", "\n07\n"),
            note.replace("\n7\n", "\n+7\n"),
            note.replace("hbc-block 3 0", "hbc-block  3 0"),
            note.replace("hbc-block 3 0", "hbc-block 3 0 0"),
            note.replace('—', "-"),
            note.trim_end().to_owned(),
            format!("{note}\n"),
            note.replace("\n\n", "\nextra\n\n"),
            note.replace("\n\n", "\n"),
            String::new(),
        ] {
            assert!(Certificate::parse(&bad).is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn any_flipped_bit_is_noticed(place in any::<prop::sample::Index>()) {
            let mut bytes = certificate(&[1, 2, 3]).to_note().into_bytes();
            let bit = place.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            let fits = String::from_utf8(bytes)
                .is_ok_and(|note| Certificate::parse(&note).is_ok_and(|certificate| check(&certificate).is_ok()));
            prop_assert!(!fits);
        }
    }
}
