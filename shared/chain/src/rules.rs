//! What a transaction may do to the state. Every node applies these rules to every transaction of every block, so a
//! proposer cannot bend one. Signatures are checked apart, in [`super::block`]: a rule checks who *claims* to sign.
//!
//! Each rule names the section of docs/FORMATS.md that it implements.
//!
//! Consents are in [`consent`], who acts for an organisation in [`affiliation`], facts that one service states in [`facts`], what several must sign in [`votes`].
//!
//! Why: decision 0007.

mod affiliation;
mod consent;
mod facts;
mod votes;

use hbc_types::Digest;

use crate::payload::{KeyStatus, Payload};
use crate::state::Draft;
use crate::tx::Tx;

/// How far ahead of its block's time a transaction may be signed, and a block's time ahead of the clock.
pub const MAX_AHEAD_MS: u64 = 30_000;

/// The rule that stands in a transaction's way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Rule {
    /// It is for another chain.
    #[error("it is for another chain")]
    OtherChain,
    /// It was signed more than 30 s after its block's time.
    #[error("it is signed more than 30 s ahead of the block's time")]
    Ahead,
    /// It is final already.
    #[error("it is final already")]
    Final,
    /// Its signer may not say such a thing.
    #[error("its signer has no right to this kind of transaction")]
    Signer,
    /// The consent key is not registered (yet).
    #[error("the consent key is not registered")]
    KeyUnknown,
    /// The consent key is registered already.
    #[error("the consent key is registered already")]
    KeyKnown,
    /// The consent key is revoked, for ever.
    #[error("the consent key is revoked")]
    KeyRevoked,
    /// The key's events before this one are missing.
    #[error("events of this key before this one are missing")]
    SequenceAhead,
    /// The key has an event with this number already.
    #[error("the key's event with this number is another one")]
    SequenceTaken,
    /// It does not continue from the key's last event.
    #[error("`prev` is not the key's last event")]
    Previous,
    /// The grant exists already.
    #[error("the grant exists already")]
    GrantKnown,
    /// The key has revoked as many grants as it may that were never seen.
    #[error("the key has revoked 64 grants that were never seen; a grant on the ledger it may always revoke")]
    UnseenGrants,
    /// There is no such grant to alter.
    #[error("there is no such grant to alter")]
    GrantUnknown,
    /// The grant is revoked, for ever.
    #[error("the grant is revoked")]
    GrantRevoked,
    /// The root or digest stands on the ledger already.
    #[error("the root or digest stands on the ledger already")]
    Seen,
    /// Earlier changes of this subject are missing.
    #[error("earlier changes of this subject are missing")]
    NonceAhead,
    /// The subject changed since.
    #[error("the subject changed since")]
    NonceTaken,
    /// The signer gave this vote already.
    #[error("the signer gave this vote already")]
    AlreadyVoted,
    /// The change would change nothing.
    #[error("the change would change nothing")]
    NoChange,
    /// The change would leave lists or parameters that do not hold.
    #[error("the change would leave members, operators or parameters that do not hold")]
    BadChange,
    /// One key would serve two parties.
    #[error("the key serves another party")]
    KeyTaken,
    /// What has ended for ever cannot be changed.
    #[error("it has ended for ever")]
    Ended,
    /// Nobody with an active staff profile has this key.
    #[error("no active staff profile has this key")]
    StaffUnknown,
    /// The event is about no member.
    #[error("no member has this name")]
    NodeUnknown,
}

/// Why a transaction cannot be part of this block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It may be part of a later one.
    #[error("not yet: {0}")]
    NotYet(Rule),
    /// It can be part of no block after this state.
    #[error("never: {rule}")]
    Never {
        /// The rule.
        rule: Rule,
        /// The final transaction (or the one before it in this block) that excludes it, where one does.
        excluded_by: Option<Digest>,
    },
}

impl Refusal {
    const fn never(rule: Rule) -> Self {
        Self::Never { rule, excluded_by: None }
    }

    const fn excluded(rule: Rule, by: Digest) -> Self {
        Self::Never { rule, excluded_by: Some(by) }
    }

    /// The rule.
    #[must_use]
    pub const fn rule(&self) -> Rule {
        match self {
            Self::NotYet(rule) | Self::Never { rule, .. } => *rule,
        }
    }
}

impl Draft<'_> {
    /// Applies one transaction, or changes nothing. Its signature must be checked elsewhere.
    ///
    /// # Errors
    /// The rule that refuses it.
    pub fn apply(&mut self, tx: &Tx) -> Result<(), Refusal> {
        self.check_common(tx)?;
        match tx.payload() {
            Payload::MemberVote(vote) => self.member_vote(tx, vote),
            Payload::ServiceKey(change) => self.service_key(tx, change),
            Payload::Staff(staff) => self.identity_staff(tx, staff),
            Payload::Affiliation(member) => self.identity_member(tx, member),
            Payload::Order(order) => self.operator_order(tx, order),
            Payload::ConsentKey(key) => self.identity_key(tx, key),
            Payload::Anchor(anchor) => self.record_anchor(tx, anchor),
            Payload::Erase(erase) => self.record_erase(tx, erase),
            Payload::Grant(consent) => self.consent_grant(tx, consent),
            Payload::Alter(consent) => self.consent_alter(tx, consent),
            Payload::Revoke(revoke) => self.consent_revoke(tx, revoke),
            Payload::Receipts(receipts) => self.access_receipts(tx, receipts),
            Payload::Release(release) => self.statistics_release(tx, release),
            Payload::NodeEvent(event) => self.node_event(tx, event),
        }?;
        let index = u32::try_from(self.len()).unwrap_or(u32::MAX);
        self.work.txids.insert(tx.txid(), index);
        Ok(())
    }

    /// Why this signer may not say it. A right that ended names what ended it; a key that nobody introduced yet may still be
    /// given one; whoever serves as something else, or introduces itself, will never have it.
    fn not_by(&self, tx: &Tx) -> Refusal {
        let kid = tx.kid();
        let ended = match self.service(&kid) {
            Some(entry) if entry.status == KeyStatus::Revoked => entry.txid,
            Some(_) => None,
            None => self.left_by(&kid),
        };
        let introduces_itself = tx.payload().introduces().is_some_and(|key| key.kid() == kid);
        match ended {
            Some(by) => Refusal::excluded(Rule::Signer, by),
            None if introduces_itself || self.knows(&kid) => Refusal::never(Rule::Signer),
            None => Refusal::NotYet(Rule::Signer),
        }
    }

    /// FORMATS §5.2: "Of any type is refused: a `chain` that is another; a txid that is in the chain already or earlier in
    /// the block; an `iat` more than 30,000 ms after the block's time_ms".
    fn check_common(&self, tx: &Tx) -> Result<(), Refusal> {
        if tx.payload().chain() != self.state.chain() {
            return Err(Refusal::never(Rule::OtherChain));
        }
        if self.has(&tx.txid()) {
            return Err(Refusal::excluded(Rule::Final, tx.txid()));
        }
        if tx.payload().iat() > self.time_ms.saturating_add(MAX_AHEAD_MS) {
            return Err(Refusal::NotYet(Rule::Ahead));
        }
        Ok(())
    }
}
