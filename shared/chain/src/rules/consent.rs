//! Consent keys and grants.
//!
//! `consent.grant` and `consent.alter` carry `seq` = last + 1 and `prev` = the key's last such event (null first);
//! `consent.revoke` carries neither: it is valid once, before or after its grant was seen, and kills that grant for ever.
//! A revoked key kills its grants and never comes back.

use hbc_types::Digest;
use hbc_types::account::ServiceRole;

use super::{Refusal, Rule};
use crate::entry::{Entry, GrantEntry, KeyEntry, Kind, MAX_UNSEEN};
use crate::payload::{Consent, ConsentKey, KeyStatus, Revoke};
use crate::state::Draft;
use crate::tx::Tx;

impl Draft<'_> {
    /// FORMATS §5.4, `identity.key`. Registration: auth, once per key. Revocation: auth or the key itself, once.
    pub(super) fn identity_key(&mut self, tx: &Tx, payload: &ConsentKey) -> Result<(), Refusal> {
        let by_auth = self.is_service(&tx.kid(), ServiceRole::Auth);
        let known = self.key(&payload.key);
        let entry = match (payload.status, known, payload.public) {
            (KeyStatus::Active, ..) if !by_auth => return Err(self.not_by(tx)),
            (KeyStatus::Active, Some(known), _) => {
                let revoked = known.status == KeyStatus::Revoked;
                let rule = if revoked { Rule::KeyRevoked } else { Rule::KeyKnown };
                return Err(Refusal::excluded(rule, known.txid));
            }
            (KeyStatus::Active, None, Some(public)) => {
                KeyEntry { prev: None, public, seq: 0, status: KeyStatus::Active, txid: tx.txid(), unseen: 0 }
            }
            (KeyStatus::Revoked, ..) if !by_auth && tx.kid() != payload.key => {
                return Err(self.not_by(tx));
            }
            (KeyStatus::Revoked, Some(known), _) if known.status == KeyStatus::Revoked => {
                return Err(Refusal::excluded(Rule::KeyRevoked, known.txid));
            }
            (KeyStatus::Revoked, Some(known), _) => {
                KeyEntry { status: KeyStatus::Revoked, txid: tx.txid(), ..known.clone() }
            }
            (_, None, _) => return Err(Refusal::NotYet(Rule::KeyUnknown)),
        };
        self.put(Kind::Key, &payload.key, Entry::Key(Box::new(entry)));
        Ok(())
    }

    /// FORMATS §5.4, `consent.grant`: "a grant if (`grant`, `<key>/<grant>`) exists".
    pub(super) fn consent_grant(&mut self, tx: &Tx, payload: &Consent) -> Result<(), Refusal> {
        let key = self.next_event(tx, payload)?;
        if let Some(known) = self.grant(&payload.key, &payload.grant) {
            let revoked = known.status == KeyStatus::Revoked;
            let rule = if revoked { Rule::GrantRevoked } else { Rule::GrantKnown };
            return Err(Refusal::excluded(rule, known.txid));
        }
        self.put_event(tx, payload, key);
        Ok(())
    }

    /// FORMATS §5.4, `consent.alter`: "an alteration if it does not or is revoked".
    pub(super) fn consent_alter(&mut self, tx: &Tx, payload: &Consent) -> Result<(), Refusal> {
        let key = self.next_event(tx, payload)?;
        match self.grant(&payload.key, &payload.grant) {
            // Only an event with this very number could still bring the grant, and that would exclude this one.
            None => return Err(Refusal::never(Rule::GrantUnknown)),
            Some(known) if known.status == KeyStatus::Revoked => {
                return Err(Refusal::excluded(Rule::GrantRevoked, known.txid));
            }
            Some(_) => {}
        }
        self.put_event(tx, payload, key);
        Ok(())
    }

    /// FORMATS §5.4: "refused if (`key`, key) does not exist or is revoked, if `seq` is not its `seq` + 1, if `prev` is not
    /// its `prev`". Answers the key as this event leaves it.
    fn next_event(&self, tx: &Tx, payload: &Consent) -> Result<KeyEntry, Refusal> {
        if tx.kid() != payload.key {
            return Err(Refusal::never(Rule::Signer));
        }
        let key = self.key(&payload.key).ok_or(Refusal::NotYet(Rule::KeyUnknown))?;
        if key.status == KeyStatus::Revoked {
            return Err(Refusal::excluded(Rule::KeyRevoked, key.txid));
        }
        let next = key.seq.saturating_add(1);
        if payload.seq > next {
            return Err(Refusal::NotYet(Rule::SequenceAhead));
        }
        if payload.seq < next {
            return Err(excluded(Rule::SequenceTaken, key.prev));
        }
        if payload.prev != key.prev {
            return Err(excluded(Rule::Previous, key.prev));
        }
        Ok(KeyEntry { prev: Some(tx.txid()), seq: next, ..key.clone() })
    }

    fn put_event(&mut self, tx: &Tx, payload: &Consent, key: KeyEntry) {
        self.put(Kind::Key, &payload.key, Entry::Key(Box::new(key)));
        let grant = GrantEntry {
            commitment: Some(payload.commitment),
            custody: Some(payload.custody),
            seq: payload.seq,
            status: KeyStatus::Active,
            txid: tx.txid(),
        };
        self.put_grant(&payload.key, &payload.grant, grant);
    }

    /// FORMATS §5.4, `consent.revoke`. The key, live or not; once per grant, and of grants that were never seen 64 a key:
    /// each leaves an entry for ever, and nobody else has signed anything about them.
    pub(super) fn consent_revoke(&mut self, tx: &Tx, payload: &Revoke) -> Result<(), Refusal> {
        if tx.kid() != payload.key {
            return Err(Refusal::never(Rule::Signer));
        }
        let key = self.key(&payload.key).ok_or(Refusal::NotYet(Rule::KeyUnknown))?.clone();
        let entry = match self.grant(&payload.key, &payload.grant) {
            Some(known) if known.status == KeyStatus::Revoked => {
                return Err(Refusal::excluded(Rule::GrantRevoked, known.txid));
            }
            Some(known) => GrantEntry { status: KeyStatus::Revoked, txid: tx.txid(), ..known.clone() },
            None if key.unseen >= MAX_UNSEEN => return Err(Refusal::never(Rule::UnseenGrants)),
            None => {
                let key = KeyEntry { unseen: key.unseen.saturating_add(1), ..key };
                self.put(Kind::Key, &payload.key, Entry::Key(Box::new(key)));
                GrantEntry {
                    commitment: None,
                    custody: None,
                    seq: 0,
                    status: KeyStatus::Revoked,
                    txid: tx.txid(),
                }
            }
        };
        self.put_grant(&payload.key, &payload.grant, entry);
        Ok(())
    }
}

const fn excluded(rule: Rule, by: Option<Digest>) -> Refusal {
    Refusal::Never { rule, excluded_by: by }
}
