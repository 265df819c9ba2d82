//! A journal in memory that behaves like the one over the database.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use hbc_chain::tx;
use hbc_client::ledger::{FinalBlock, Journal, JournalError};
use hbc_types::outbox::{FollowPosition, OpenTransaction, SubmitOutcome, TransactionState};
use hbc_types::{Digest, Timestamp};

use crate::{NOW_MS, author};

#[derive(Default)]
struct Kept {
    position: Option<FollowPosition>,
    applied: Vec<u64>,
    open: Vec<OpenTransaction>,
    due_at: HashMap<Digest, Timestamp>,
    states: HashMap<Digest, TransactionState>,
    fail_applies: u32,
}

/// The journal; its clones are the same one.
#[derive(Clone, Default)]
pub struct Memory(Arc<Mutex<Kept>>);

impl Memory {
    pub fn enqueue(&self, jws: &str) -> Digest {
        let txid = tx::txid(jws.as_bytes());
        let mut kept = self.0.lock().unwrap();
        let seq = i64::try_from(kept.open.len()).unwrap();
        kept.open.push(OpenTransaction {
            seq,
            txid,
            author: author(),
            kind: "access.receipts".to_owned(),
            reference: String::new(),
            jws: jws.to_owned(),
            enqueued_at: Timestamp::from_ms(NOW_MS),
            attempts: 0,
            node: None,
            include_by: None,
        });
        kept.states.insert(txid, TransactionState::Waiting);
        txid
    }

    pub fn applied(&self) -> Vec<u64> {
        self.0.lock().unwrap().applied.clone()
    }

    pub fn state(&self, txid: Digest) -> TransactionState {
        self.0.lock().unwrap().states[&txid].clone()
    }

    pub fn node_of(&self, txid: Digest) -> Option<String> {
        self.0.lock().unwrap().open.iter().find(|open| open.txid == txid).and_then(|open| open.node.clone())
    }

    pub fn fail_next_applies(&self, count: u32) {
        self.0.lock().unwrap().fail_applies = count;
    }
}

impl Journal for Memory {
    async fn position(&self) -> Result<Option<FollowPosition>, JournalError> {
        Ok(self.0.lock().unwrap().position.clone())
    }

    async fn apply(&self, block: &FinalBlock, position: FollowPosition) -> Result<(), JournalError> {
        let mut kept = self.0.lock().unwrap();
        if kept.fail_applies > 0 {
            kept.fail_applies -= 1;
            return Err("disk full".into());
        }
        kept.applied.push(block.height());
        kept.position = Some(position);
        for transaction in &block.transactions {
            kept.open.retain(|open| open.txid != transaction.txid);
            let state = TransactionState::Final { height: block.height(), log_index: transaction.log_index };
            kept.states.insert(transaction.txid, state);
        }
        Ok(())
    }

    async fn due(&self, now: Timestamp, limit: u32) -> Result<Vec<OpenTransaction>, JournalError> {
        let kept = self.0.lock().unwrap();
        let due = kept.open.iter().filter(|open| kept.due_at.get(&open.txid).is_none_or(|at| *at <= now));
        Ok(due.take(limit as usize).cloned().collect())
    }

    async fn record(&self, outcomes: Vec<SubmitOutcome>) -> Result<(), JournalError> {
        let mut kept = self.0.lock().unwrap();
        for outcome in outcomes {
            match outcome {
                SubmitOutcome::Submitted { txid, node, include_by, look_again } => {
                    kept.due_at.insert(txid, look_again);
                    kept.states.insert(txid, TransactionState::Submitted);
                    for open in kept.open.iter_mut().filter(|open| open.txid == txid) {
                        (open.node, open.include_by) = (Some(node.clone()), Some(include_by));
                        open.attempts += 1;
                    }
                }
                SubmitOutcome::Postponed { txid, again } => {
                    kept.due_at.insert(txid, again);
                    for open in kept.open.iter_mut().filter(|open| open.txid == txid) {
                        open.attempts += 1;
                    }
                }
                SubmitOutcome::Refused { txid, reason, excluded_by } => {
                    kept.open.retain(|open| open.txid != txid);
                    kept.states.insert(txid, TransactionState::Refused { reason, excluded_by });
                }
            }
        }
        Ok(())
    }
}
