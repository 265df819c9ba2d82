//! What becomes of a transaction that arrives: it is final already, promised, waits for its block, or is refused. Three
//! steps without I/O: a look at what is known, the signatures of the rest, and the rules. The chain and the mempool are
//! held for the first and the last, not while signatures are checked.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use hbc_chain::memory::Chain;
use hbc_chain::parallel;
use hbc_chain::rules::Refusal;
use hbc_chain::tx::Tx;
use hbc_types::Digest;
use hbc_types::keys::{Kid, PreparedKey};

use super::mempool::{Mempool, Unwelcome};

/// As many signatures at least are checked on one thread.
const PART: usize = 16;

/// Why a transaction is not taken.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SubmitError {
    /// Signed for another chain.
    #[error("signed for another chain")]
    OtherChain,
    /// Not signed by the key that it names, or that key is not known.
    #[error("the signature does not fit, or its key is not known")]
    Signature,
    /// A rule refuses it.
    #[error("{0}")]
    Rule(Refusal),
    /// Too much waits.
    #[error("too many transactions wait")]
    Full,
    /// The store failed verification.
    #[error("the node's store was changed")]
    Attacked,
    /// The store cannot be written.
    #[error("the store cannot be written now")]
    Store,
}

/// Whose transactions are validated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// A client's, to be made durable and promised.
    Client,
    /// Another member's, which answers for them.
    Member,
}

/// What becomes of one transaction.
#[derive(Clone, Debug)]
pub enum Validated {
    /// Final at this height.
    Final(u64),
    /// This node answers for it already.
    Promised,
    /// It waits for its block; to be made durable before it is promised.
    Waits,
    /// It is not taken.
    Refused(SubmitError),
}

/// What is known of transactions before their signatures are checked.
#[derive(Debug)]
pub struct Lookup {
    unknown: Vec<bool>,
    keys: HashMap<Kid, PreparedKey>,
}

/// What a signature is worth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signature {
    /// Nobody asks: the transaction is known.
    Known,
    /// It fits.
    Fits,
    /// Nobody told the key that it names.
    NoKey,
    /// It does not fit: nobody honest passes such a thing on.
    False,
}

/// True if nobody here knows the transaction yet.
#[must_use]
pub fn is_new(chain: &Chain, mempool: &Mempool, txid: &Digest) -> bool {
    mempool.get(txid).is_none() && chain.state().place(txid).is_none()
}

/// Which of them are new here, and the keys that the new ones name, wherever those are introduced.
#[must_use]
pub fn lookup(chain: &Chain, mempool: &Mempool, txs: &[Arc<Tx>]) -> Lookup {
    let unknown = |tx: &Arc<Tx>| tx.payload().chain() == chain.id() && is_new(chain, mempool, &tx.txid());
    let unknown: Vec<bool> = txs.iter().map(unknown).collect();
    let introduced = txs.iter().filter_map(|tx| tx.payload().introduces());
    let mut keys: HashMap<Kid, PreparedKey> =
        introduced.filter_map(|key| key.prepare().ok()).map(|key| (key.kid(), key)).collect();
    for (tx, _) in txs.iter().zip(&unknown).filter(|(_, unknown)| **unknown) {
        if let Entry::Vacant(place) = keys.entry(tx.kid()) {
            let key = chain.state().public_key(&tx.kid()).or_else(|| mempool.key(&tx.kid()));
            if let Some(key) = key.and_then(|key| key.prepare().ok()) {
                place.insert(key);
            }
        }
    }
    Lookup { unknown, keys }
}

/// Checks the signatures of what is new, on all cores when they are many.
#[must_use]
pub fn check_signatures(txs: &[Arc<Tx>], lookup: &Lookup) -> Vec<Signature> {
    let check = |(tx, unknown): &(&Arc<Tx>, &bool)| match (unknown, lookup.keys.get(&tx.kid())) {
        (false, _) => Signature::Known,
        (true, None) => Signature::NoKey,
        (true, Some(key)) if tx.verify_prepared(key).is_ok() => Signature::Fits,
        (true, Some(_)) => Signature::False,
    };
    let all: Vec<(&Arc<Tx>, &bool)> = txs.iter().zip(&lookup.unknown).collect();
    parallel::map(&all, PART, check)
}

/// Tries what is new on the speculative state, each on what the one before left; what fits waits from now on, a
/// client's held until it is durable.
pub fn decide(
    chain: &Chain,
    mempool: &mut Mempool,
    txs: &[Arc<Tx>],
    signatures: &[Signature],
    source: Source,
    now_ms: u64,
) -> Vec<Validated> {
    let one = |(tx, signature): (&Arc<Tx>, &Signature)| {
        let txid = tx.txid();
        if let Some(place) = chain.state().place(&txid) {
            return Validated::Final(place.height);
        }
        if mempool.is_promised(&txid) {
            return Validated::Promised;
        }
        if mempool.get(&txid).is_some() {
            if source == Source::Member {
                mempool.release(&txid);
            }
            return Validated::Waits;
        }
        if tx.payload().chain() != chain.id() {
            return Validated::Refused(SubmitError::OtherChain);
        }
        if *signature != Signature::Fits {
            return Validated::Refused(SubmitError::Signature);
        }
        match mempool.welcome(chain, tx, source == Source::Client, now_ms) {
            Ok(()) => Validated::Waits,
            Err(Unwelcome::Full) => Validated::Refused(SubmitError::Full),
            Err(Unwelcome::Rule(refusal)) => Validated::Refused(SubmitError::Rule(refusal)),
        }
    };
    txs.iter().zip(signatures).map(one).collect()
}

/// All three steps at once, for whoever holds chain and mempool anyway.
pub fn validate(
    chain: &Chain,
    mempool: &mut Mempool,
    txs: &[Arc<Tx>],
    source: Source,
    now_ms: u64,
) -> Vec<Validated> {
    let lookup = lookup(chain, mempool, txs);
    decide(chain, mempool, txs, &check_signatures(txs, &lookup), source, now_ms)
}
