//! The members' envelopes: how they are packed, signed, sent and told from forged ones.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hbc_client::operations::ledger;
use hbc_client::{Call, ClientError, Endpoint};
use hbc_consensus::sign_bytes::{fits, sign};
use hbc_consensus::{Member, MemberId};
use hbc_types::Digest;
use serde::de::DeserializeOwned;

use super::{Heard, Item, Sender};

/// Kid of the sending member.
pub const MEMBER_HEADER: &str = "hbc-member";
/// Its signature over [`envelope_text`], base64.
pub const SIGNATURE_HEADER: &str = "hbc-member-signature";
/// Largest envelope: a block, its proposal and some votes.
pub const MAX_ENVELOPE_BYTES: usize = 12 << 20;

/// Sends one envelope and waits for the answer.
pub async fn send_envelope(
    endpoint: &Endpoint,
    receiver: &MemberId,
    sender: &Sender,
    body: Vec<u8>,
) -> Result<Heard, ClientError> {
    let path = ledger::receive_envelope().path;
    post_signed(endpoint, &path, receiver, sender, "application/octet-stream", body).await
}

/// Posts a body in the member's name and waits for the answer.
pub async fn post_signed<T: DeserializeOwned>(
    endpoint: &Endpoint,
    path: &str,
    receiver: &MemberId,
    sender: &Sender,
    media_type: &str,
    body: Vec<u8>,
) -> Result<T, ClientError> {
    let text = envelope_text(&sender.chain, &sender.me, receiver, &body);
    let signature = STANDARD.encode(sign(&sender.key, &text));
    endpoint
        .post(path)
        .deadline(Duration::from_secs(5))
        .header(MEMBER_HEADER, &sender.me.to_string())
        .header(SIGNATURE_HEADER, &signature)
        .body(media_type, body)
        .fetch()
        .await
}

/// Reads from `receiver` in the member's name: a node serves everybody, and keeps capacity for the members. What is signed is
/// an envelope whose body is the path.
pub fn read_as<A>(call: Call<A>, path: &str, receiver: Option<MemberId>, sender: Option<&Sender>) -> Call<A> {
    let (Some(receiver), Some(sender)) = (receiver, sender) else { return call };
    let text = envelope_text(&sender.chain, &sender.me, &receiver, path.as_bytes());
    let signature = STANDARD.encode(sign(&sender.key, &text));
    call.header(MEMBER_HEADER, &sender.me.to_string()).header(SIGNATURE_HEADER, &signature)
}

/// What a member signs to vouch for an envelope.
#[must_use]
pub fn envelope_text(chain: &Digest, sender: &MemberId, receiver: &MemberId, body: &[u8]) -> Vec<u8> {
    format!("hbc/member-message/v1\n{chain}\n{sender}\n{receiver}\n{}\n", Digest::of(body)).into_bytes()
}

/// True if `signature` (base64) is `member`'s for this envelope to `receiver`.
#[must_use]
pub fn is_genuine(
    chain: &Digest,
    member: &Member,
    receiver: &MemberId,
    body: &[u8],
    signature: &str,
) -> bool {
    let Ok(Ok(signature)) = STANDARD.decode(signature).map(<[u8; 64]>::try_from) else { return false };
    fits(member, &envelope_text(chain, &member.id, receiver, body), &signature)
}

/// Appends an item: kind u8, length u32, bytes.
pub fn pack(body: &mut Vec<u8>, item: &Item) {
    match item {
        Item::Consensus(_, bytes) => pack_one(body, 1, bytes),
        Item::Transactions(all) => all.iter().for_each(|bytes| pack_one(body, 2, bytes)),
    }
}

fn pack_one(body: &mut Vec<u8>, kind: u8, bytes: &[u8]) {
    body.push(kind);
    body.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    body.extend_from_slice(bytes);
}

/// What an envelope holds, as kinds and bytes.
#[derive(Debug, PartialEq, Eq)]
pub enum Unpacked<'a> {
    /// A consensus message.
    Consensus(&'a [u8]),
    /// A compact JWS.
    Transaction(&'a [u8]),
}

/// Reads an envelope's body whole, or not at all.
#[must_use]
pub fn unpack(mut body: &[u8]) -> Option<Vec<Unpacked<'_>>> {
    let mut items = Vec::new();
    while let Some((kind, rest)) = body.split_first() {
        let (length, rest) = rest.split_first_chunk::<4>()?;
        let (bytes, rest) = rest.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        items.push(match kind {
            1 => Unpacked::Consensus(bytes),
            2 => Unpacked::Transaction(bytes),
            _ => return None,
        });
        body = rest;
    }
    Some(items)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ed25519_dalek::SigningKey;

    use super::*;

    #[test]
    fn an_envelope_reads_back_and_a_cut_one_does_not() {
        let mut body = Vec::new();
        pack(&mut body, &Item::Consensus(3, b"vote".as_slice().into()));
        pack(&mut body, &Item::Transactions([Arc::from(b"a.b.c".as_slice())].into()));
        assert_eq!(unpack(&body), Some(vec![Unpacked::Consensus(b"vote"), Unpacked::Transaction(b"a.b.c")]));
        assert_eq!(unpack(&body[..body.len() - 1]), None);
        assert_eq!(unpack(&[9, 0, 0, 0, 0]), None);
    }

    #[test]
    fn an_envelope_for_one_receiver_is_worth_nothing_to_another() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let me = Member::new(key.verifying_key().to_bytes());
        let (chain, to) = (Digest::of(b"chain"), MemberId([1; 32]));
        let signature = STANDARD.encode(sign(&key, &envelope_text(&chain, &me.id, &to, b"body")));
        assert!(is_genuine(&chain, &me, &to, b"body", &signature));
        assert!(!is_genuine(&chain, &me, &MemberId([2; 32]), b"body", &signature));
        assert!(!is_genuine(&chain, &me, &to, b"bodY", &signature));
        assert!(!is_genuine(&Digest::of(b"other"), &me, &to, b"body", &signature));
    }
}
