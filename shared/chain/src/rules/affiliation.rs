//! Who acts for an organisation.
//!
//! It begins with the organisation's word about somebody whose staff profile operators made active, and ends, at once,
//! with the word of either side.
//!
//! Why: decision 0111.

use super::{Refusal, Rule};
use crate::entry::{AffiliationEntry, Entry, Kind, affiliation_id};
use crate::payload::{Affiliation, AffiliationStatus, StaffStatus};
use crate::state::Draft;
use crate::tx::Tx;
use hbc_types::keys::Kid;

impl Draft<'_> {
    /// FORMATS §5.5, `identity.member`. Signed, §5: "`active`: the key `organisation`; `ended`: either key".
    pub(super) fn identity_member(&mut self, tx: &Tx, payload: &Affiliation) -> Result<(), Refusal> {
        let signer = tx.kid();
        let may = signer == payload.organisation
            || (payload.status == AffiliationStatus::Ended && signer == payload.key);
        if !may {
            return Err(Refusal::never(Rule::Signer));
        }
        let id = affiliation_id(&payload.organisation, &payload.key);
        let known = self.affiliation(&id);
        let count = known.map_or(0, |entry| entry.count);
        if payload.nonce > count {
            return Err(Refusal::NotYet(Rule::NonceAhead));
        }
        if payload.nonce < count {
            return Err(Refusal::Never {
                rule: Rule::NonceTaken,
                excluded_by: known.map(|entry| entry.txid),
            });
        }
        match payload.status {
            AffiliationStatus::Active => {
                self.active_staff(&payload.organisation)?;
                self.active_staff(&payload.key)?;
            }
            AffiliationStatus::Ended => {
                if known.is_none_or(|entry| entry.status == AffiliationStatus::Ended) {
                    return Err(Refusal::never(Rule::NoChange));
                }
            }
        }
        let entry = AffiliationEntry {
            commitment: payload.commitment,
            count: count.saturating_add(1),
            status: payload.status,
            txid: tx.txid(),
        };
        self.put_text(Kind::Affiliation, &id, Entry::Affiliation(Box::new(entry)));
        Ok(())
    }

    fn active_staff(&self, key: &Kid) -> Result<(), Refusal> {
        match self.staff(key) {
            Some(entry) if entry.status == StaffStatus::Active => Ok(()),
            Some(entry) if entry.status == StaffStatus::Revoked => {
                Err(Refusal::excluded(Rule::Ended, entry.txid))
            }
            Some(_) | None => Err(Refusal::NotYet(Rule::StaffUnknown)),
        }
    }
}
