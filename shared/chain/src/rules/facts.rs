//! What a single service states: anchors, erasures, receipts, statistics.

use hbc_types::Digest;
use hbc_types::account::ServiceRole;

use super::{Refusal, Rule};
use crate::entry::{Entry, ErasedEntry, Kind, ReceiptsEntry, ReleaseEntry, SeenEntry};
use crate::payload::{Anchor, Erase, Receipts, Release};
use crate::rtree::AnchorLeaf;
use crate::state::Draft;
use crate::tx::Tx;

impl Draft<'_> {
    /// FORMATS §5.5, `record.anchor`: "refused if (`segment`, root) exists for one of its roots". Signed by storage.
    pub(super) fn record_anchor(&mut self, tx: &Tx, payload: &Anchor) -> Result<(), Refusal> {
        self.signed_by(tx, ServiceRole::Storage)?;
        for segment in &payload.segments {
            self.unseen(Kind::Segment, &segment.root)?;
        }
        for segment in &payload.segments {
            self.put(Kind::Segment, &segment.root, Entry::Seen(SeenEntry { txid: tx.txid() }));
        }
        for leaf in AnchorLeaf::all_of(payload, self.height, tx.txid()) {
            self.push_anchor(leaf);
        }
        Ok(())
    }

    /// FORMATS §5.5, `record.erase`. Signed by access-policy. What was erased before stays erased by the first that said so.
    pub(super) fn record_erase(&mut self, tx: &Tx, payload: &Erase) -> Result<(), Refusal> {
        self.signed_by(tx, ServiceRole::AccessPolicy)?;
        for digest in payload.roots.iter().chain(&payload.records) {
            if self.get(Kind::Erased, digest).is_none() {
                let entry = ErasedEntry { commitment: payload.commitment, txid: tx.txid() };
                self.put(Kind::Erased, digest, Entry::Erased(Box::new(entry)));
            }
        }
        Ok(())
    }

    /// FORMATS §5.5, `access.receipts`: "refused if (`receipts`, root) exists". Signed by access-policy.
    pub(super) fn access_receipts(&mut self, tx: &Tx, payload: &Receipts) -> Result<(), Refusal> {
        self.signed_by(tx, ServiceRole::AccessPolicy)?;
        self.unseen(Kind::Receipts, &payload.root)?;
        let entry = ReceiptsEntry { count: payload.count, rights: payload.rights, txid: tx.txid() };
        self.put(Kind::Receipts, &payload.root, Entry::Receipts(Box::new(entry)));
        Ok(())
    }

    /// FORMATS §5.5, `statistics.release`: "refused if (`release`, digest) exists". Signed by storage.
    pub(super) fn statistics_release(&mut self, tx: &Tx, payload: &Release) -> Result<(), Refusal> {
        self.signed_by(tx, ServiceRole::Storage)?;
        self.unseen(Kind::Release, &payload.digest)?;
        let entry = ReleaseEntry { period: payload.period.clone(), txid: tx.txid() };
        self.put(Kind::Release, &payload.digest, Entry::Release(Box::new(entry)));
        Ok(())
    }

    fn signed_by(&self, tx: &Tx, role: ServiceRole) -> Result<(), Refusal> {
        if self.is_service(&tx.kid(), role) { Ok(()) } else { Err(self.not_by(tx)) }
    }

    fn unseen(&self, kind: Kind, id: &Digest) -> Result<(), Refusal> {
        let by = match self.get(kind, id) {
            None => return Ok(()),
            Some(Entry::Seen(entry)) => Some(entry.txid),
            Some(Entry::Receipts(entry)) => Some(entry.txid),
            Some(Entry::Release(entry)) => Some(entry.txid),
            Some(_) => None,
        };
        Err(Refusal::Never { rule: Rule::Seen, excluded_by: by })
    }
}
