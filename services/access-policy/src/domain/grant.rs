//! A grant and its states. Pure: whoever calls these transitions stores what they leave behind.
//!
//! `draft → pending → active → revoked | expired`, with `refused` if the ledger excludes it and `frozen` laid over the
//! living ones. Two rules hold everywhere: nothing but a final block makes a grant act, and a revocation is for ever,
//! whether it comes before or after the block.

use std::collections::BTreeMap;

use hbc_types::account::Custody;
use hbc_types::ids::{AccessRequestId, GrantId, GranteeId, PatientId};
use hbc_types::wire::access::{GrantState, Labels, Scope};
use hbc_types::{Digest, Timestamp};

/// The highest record number of each label set at the time of signing: the limit of a grant without future records.
pub type NumberLimits = BTreeMap<Labels, u64>;

/// A grant as far as decisions need it; its evidence stays in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grant {
    /// Its id.
    pub id: GrantId,
    /// Whose records.
    pub patient: PatientId,
    /// To whom.
    pub grantee: GranteeId,
    /// To an app: whether it may come when the patient is not there.
    pub offline: Option<bool>,
    /// To a device: kid of its key.
    pub device: Option<Digest>,
    /// The request it answers.
    pub request: Option<AccessRequestId>,
    /// What is granted.
    pub scope: Scope,
    /// Who holds the signing key.
    pub custody: Custody,
    /// The time in the signed text.
    pub given_at: Timestamp,
    /// Until when the draft may be signed.
    pub draft_expires_at: Timestamp,
    /// Kid of the consent key, once signed.
    pub kid: Option<Digest>,
    /// Its place among the key's events, once signed.
    pub seq: Option<u64>,
    /// The transaction, once signed.
    pub txid: Option<Digest>,
    /// When the signature was accepted.
    pub signed_at: Option<Timestamp>,
    /// What existed then.
    pub numbers: NumberLimits,
    /// Height of its final block.
    pub final_height: Option<u64>,
    /// Why the ledger refused it.
    pub refused: Option<String>,
    /// Since when the patient stopped it without a key.
    pub frozen_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
    /// The transaction that revoked it.
    pub revoked_by: Option<Digest>,
    /// The final `consent.alter` whose body is not known here: until it is, the grant stands still.
    pub altered_by: Option<Digest>,
    /// When it stopped being considered at all: revoked, refused or swept after its period.
    pub ended_at: Option<Timestamp>,
}

/// What a signature brings to a draft.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// Kid of the consent key.
    pub kid: Digest,
    /// The event's place.
    pub seq: u64,
    /// The transaction's id.
    pub txid: Digest,
    /// The numbers that exist now.
    pub numbers: NumberLimits,
}

/// A transition that the grant's state does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransitionError {
    /// The five minutes are over.
    #[error("the draft has expired")]
    DraftExpired,
    /// It was signed before.
    #[error("the grant is signed already")]
    AlreadySigned,
    /// It was never signed.
    #[error("the grant was never signed")]
    NotSigned,
    /// It is over.
    #[error("the grant has ended")]
    Ended,
    /// It is not frozen.
    #[error("the grant is not frozen")]
    NotFrozen,
}

impl Grant {
    /// Where it stands at `now`, not counting a freeze of everything.
    #[must_use]
    pub fn state(&self, now: Timestamp) -> GrantState {
        if self.revoked_at.is_some() {
            GrantState::Revoked
        } else if self.signed_at.is_none() {
            GrantState::Draft
        } else if self.refused.is_some() {
            GrantState::Refused
        } else if now >= self.scope.until {
            GrantState::Expired
        } else if self.altered_by.is_some() {
            GrantState::Altered
        } else if self.frozen_at.is_some() {
            GrantState::Frozen
        } else if self.final_height.is_none() {
            GrantState::Pending
        } else {
            GrantState::Active
        }
    }

    /// Whether it is signed and has not ended: the ones that the patient's MAC covers.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.signed_at.is_some() && self.ended_at.is_none()
    }

    /// Accepts a verified signature.
    pub fn sign(&mut self, signature: Signature, now: Timestamp) -> Result<(), TransitionError> {
        if self.signed_at.is_some() {
            return Err(TransitionError::AlreadySigned);
        }
        if self.ended_at.is_some() {
            return Err(TransitionError::Ended);
        }
        if now >= self.draft_expires_at {
            return Err(TransitionError::DraftExpired);
        }
        self.kid = Some(signature.kid);
        self.seq = Some(signature.seq);
        self.txid = Some(signature.txid);
        self.numbers = signature.numbers;
        self.signed_at = Some(now);
        Ok(())
    }

    /// Its transaction is in a final block; says whether that was news. A refusal told before was wrong: the chain wins.
    pub fn make_final(&mut self, height: u64) -> Result<bool, TransitionError> {
        if self.signed_at.is_none() {
            return Err(TransitionError::NotSigned);
        }
        if self.final_height.is_some() {
            return Ok(false);
        }
        self.final_height = Some(height);
        if self.refused.take().is_some() && self.revoked_at.is_none() {
            self.ended_at = None;
        }
        Ok(true)
    }

    /// The ledger excludes it; says whether that was news. What is final cannot be refused.
    pub fn refuse(&mut self, reason: &str, now: Timestamp) -> Result<bool, TransitionError> {
        if self.signed_at.is_none() {
            return Err(TransitionError::NotSigned);
        }
        if self.final_height.is_some() || self.refused.is_some() {
            return Ok(false);
        }
        self.refused = Some(reason.to_owned());
        self.ended_at.get_or_insert(now);
        Ok(true)
    }

    /// Revokes for ever; says whether that was news.
    pub fn revoke(&mut self, by: Digest, now: Timestamp) -> Result<bool, TransitionError> {
        if self.signed_at.is_none() {
            return Err(TransitionError::NotSigned);
        }
        if self.revoked_at.is_some() {
            return Ok(false);
        }
        self.revoked_at = Some(now);
        self.revoked_by = Some(by);
        self.ended_at.get_or_insert(now);
        Ok(true)
    }

    /// Ends it for ever because its patient's account is closed; says whether that was news. No transaction of its own says so.
    pub fn close(&mut self, now: Timestamp) -> Result<bool, TransitionError> {
        if self.signed_at.is_none() {
            return Err(TransitionError::NotSigned);
        }
        if self.revoked_at.is_some() {
            return Ok(false);
        }
        self.revoked_at = Some(now);
        self.ended_at.get_or_insert(now);
        Ok(true)
    }

    /// Stops it without a key; says whether that was news.
    pub fn freeze(&mut self, now: Timestamp) -> Result<bool, TransitionError> {
        if self.signed_at.is_none() {
            return Err(TransitionError::NotSigned);
        }
        if self.ended_at.is_some() {
            return Err(TransitionError::Ended);
        }
        if self.frozen_at.is_some() {
            return Ok(false);
        }
        self.frozen_at = Some(now);
        Ok(true)
    }

    /// The ledger says that it was altered, by its key's event `seq` at this height; says whether that was news.
    pub fn alter(&mut self, by: Digest, seq: u64, height: u64) -> Result<bool, TransitionError> {
        if self.signed_at.is_none() {
            return Err(TransitionError::NotSigned);
        }
        // One that was opened, or that an opened one follows, is known.
        let news = self.ended_at.is_none() && self.altered_by != Some(by) && self.seq < Some(seq);
        if news {
            self.altered_by = Some(by);
            self.final_height = Some(height);
        }
        Ok(news)
    }

    /// Lifts the freeze; the caller has checked the root's signature.
    pub fn unfreeze(&mut self) -> Result<(), TransitionError> {
        if self.ended_at.is_some() {
            return Err(TransitionError::Ended);
        }
        self.frozen_at.take().map(|_since| ()).ok_or(TransitionError::NotFrozen)
    }

    /// Ends it once its period is over; says whether it did.
    pub fn sweep(&mut self, now: Timestamp) -> bool {
        let over = self.is_live() && now >= self.scope.until;
        if over {
            self.ended_at = Some(now);
        }
        over
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use hbc_types::Random;
    use hbc_types::labels::{Category, Sensitivity};
    use hbc_types::purpose::{Action, Purpose};
    use proptest::prelude::*;

    /// A draft over laboratory and vital signs, for treatment, from 0 to 1,000,000 ms, signable until 300,000.
    pub fn draft() -> Grant {
        let random = Random::seeded(1);
        Grant {
            id: GrantId::random(&random),
            patient: PatientId::random(&random),
            grantee: GranteeId::Agency(hbc_types::ids::AgencyId::random(&random)),
            offline: None,
            device: None,
            request: None,
            scope: Scope {
                actions: vec![Action::Read],
                categories: vec![Category::Laboratory, Category::VitalSigns],
                sensitivities: vec![Sensitivity::Normal],
                purposes: vec![Purpose::Treatment],
                from: Timestamp::from_ms(0),
                until: Timestamp::from_ms(1_000_000),
                future_records: true,
            },
            custody: Custody::Server,
            given_at: Timestamp::from_ms(0),
            draft_expires_at: Timestamp::from_ms(300_000),
            kid: None,
            seq: None,
            txid: None,
            signed_at: None,
            numbers: NumberLimits::new(),
            final_height: None,
            refused: None,
            frozen_at: None,
            revoked_at: None,
            revoked_by: None,
            altered_by: None,
            ended_at: None,
        }
    }

    /// The same grant signed and final.
    pub fn active() -> Grant {
        let mut grant = draft();
        grant.sign(signature(), Timestamp::from_ms(1)).unwrap();
        grant.make_final(7).unwrap();
        grant
    }

    fn signature() -> Signature {
        Signature { kid: Digest::of(b"kid"), seq: 1, txid: Digest::of(b"tx"), numbers: NumberLimits::new() }
    }

    #[derive(Clone, Copy, Debug)]
    enum Event {
        Sign,
        Final,
        Refuse,
        Revoke,
        Close,
        Freeze,
        Unfreeze,
        Sweep,
    }

    fn events() -> impl Strategy<Value = Vec<(Event, i64)>> {
        let event = prop_oneof![
            Just(Event::Sign),
            Just(Event::Final),
            Just(Event::Refuse),
            Just(Event::Revoke),
            Just(Event::Close),
            Just(Event::Freeze),
            Just(Event::Unfreeze),
            Just(Event::Sweep),
        ];
        proptest::collection::vec((event, 0_i64..200_000), 0..14)
    }

    fn apply(grant: &mut Grant, event: Event, now: Timestamp) {
        let _allowed_or_not = match event {
            Event::Sign => grant.sign(signature(), now).is_ok(),
            Event::Final => grant.make_final(7).is_ok(),
            Event::Refuse => grant.refuse("no", now).is_ok(),
            Event::Revoke => grant.revoke(Digest::of(b"revocation"), now).is_ok(),
            Event::Close => grant.close(now).is_ok(),
            Event::Freeze => grant.freeze(now).is_ok(),
            Event::Unfreeze => grant.unfreeze().is_ok(),
            Event::Sweep => grant.sweep(now),
        };
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2_000))]

        #[test]
        fn whatever_happens_the_rules_hold(events in events()) {
            let mut grant = draft();
            let (mut now, mut was_final, mut was_revoked, mut signed_in_time) = (0, false, false, false);
            for (event, wait) in events {
                now += wait;
                let at = Timestamp::from_ms(now);
                let before = grant.clone();
                apply(&mut grant, event, at);
                was_final |= matches!(event, Event::Final) && before.signed_at.is_some();
                was_revoked |= grant.revoked_at.is_some();
                signed_in_time |= matches!(event, Event::Sign) && now < 300_000;
                let state = grant.state(at);
                // Nothing takes effect unless it was signed in time and its block is final.
                if state == GrantState::Active {
                    prop_assert!(signed_in_time && was_final && grant.is_live());
                }
                // A revocation is for ever.
                if was_revoked {
                    prop_assert_eq!(state, GrantState::Revoked);
                    prop_assert!(!grant.is_live());
                }
                // What was signed never changes again.
                if before.signed_at.is_some() {
                    prop_assert_eq!(&grant.txid, &before.txid);
                    prop_assert_eq!(&grant.scope, &before.scope);
                }
                // A frozen grant is not active.
                prop_assert!(grant.frozen_at.is_none() || state != GrantState::Active);
            }
        }
    }

    #[test]
    fn the_chain_overrules_a_refusal_but_not_a_revocation() {
        let now = Timestamp::from_ms(5);
        let mut grant = draft();
        grant.sign(signature(), now).unwrap();
        assert_eq!(grant.refuse("seq", now), Ok(true));
        assert_eq!(grant.state(now), GrantState::Refused);
        assert_eq!(grant.make_final(9), Ok(true));
        assert_eq!(grant.state(now), GrantState::Active);
        let mut grant = draft();
        grant.sign(signature(), now).unwrap();
        grant.revoke(Digest::of(b"r"), now).unwrap();
        grant.make_final(9).unwrap();
        assert_eq!(grant.state(now), GrantState::Revoked);
    }

    #[test]
    fn a_draft_lives_five_minutes_and_is_signed_once() {
        let mut grant = draft();
        assert_eq!(grant.sign(signature(), Timestamp::from_ms(300_000)), Err(TransitionError::DraftExpired));
        assert_eq!(grant.sign(signature(), Timestamp::from_ms(299_999)), Ok(()));
        assert_eq!(grant.sign(signature(), Timestamp::from_ms(299_999)), Err(TransitionError::AlreadySigned));
    }
}
