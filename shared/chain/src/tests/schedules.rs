//! Random schedules of consent events against a model, and against what patients are promised.

use std::collections::HashMap;

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, Copy)]
enum Step {
    SecondaryIndex(u8),
    Grant(u8, u8),
    Alter(u8, u8),
    Revoke(u8, u8),
    RevokeKey(u8),
    /// An event made long ago, sent again with other bytes.
    Stale(u8, u8),
    Block,
}

fn step() -> impl Strategy<Value = Step> {
    let (key, number) = (0_u8..2, 0_u8..3);
    prop_oneof![
        2 => key.clone().prop_map(Step::SecondaryIndex),
        4 => (key.clone(), number.clone()).prop_map(|(key, number)| Step::Grant(key, number)),
        3 => (key.clone(), number.clone()).prop_map(|(key, number)| Step::Alter(key, number)),
        2 => (key.clone(), number.clone()).prop_map(|(key, number)| Step::Revoke(key, number)),
        1 => key.clone().prop_map(Step::RevokeKey),
        1 => (key, number).prop_map(|(key, number)| Step::Stale(key, number)),
        2 => Just(Step::Block),
    ]
}

/// What should hold, in the plainest words.
#[derive(Default)]
struct Model {
    /// Key → revoked.
    keys: HashMap<u8, bool>,
    /// (key, grant) → revoked.
    grants: HashMap<(u8, u8), bool>,
}

impl Model {
    fn allows(&mut self, step: Step) -> bool {
        let live = |model: &Self, key| model.keys.get(&key) == Some(&false);
        match step {
            Step::SecondaryIndex(key) => self.keys.insert(key, false).is_none_or(|old| {
                self.keys.insert(key, old);
                false
            }),
            Step::Grant(key, number) if live(self, key) && !self.grants.contains_key(&(key, number)) => {
                self.grants.insert((key, number), false);
                true
            }
            Step::Alter(key, number) => live(self, key) && self.grants.get(&(key, number)) == Some(&false),
            Step::Revoke(key, number) if self.keys.contains_key(&key) => {
                self.grants.insert((key, number), true) != Some(true)
            }
            Step::RevokeKey(key) if live(self, key) => self.keys.insert(key, true).is_some(),
            _ => false,
        }
    }

    fn in_force(&self, key: u8, number: u8) -> bool {
        self.keys.get(&key) == Some(&false) && self.grants.get(&(key, number)) == Some(&false)
    }
}

fn payload(ground: &mut Ground, step: Step) -> Option<(String, Payload)> {
    let name = |key: u8| format!("k{key}");
    Some(match step {
        Step::SecondaryIndex(key) => ("auth".to_owned(), ground.registration(&name(key))),
        Step::Grant(key, number) => (name(key), ground.grant(&name(key), number)),
        Step::Alter(key, number) => (name(key), ground.alteration(&name(key), number)),
        Step::Revoke(key, number) => (name(key), ground.revocation(&name(key), number)),
        Step::RevokeKey(key) => (name(key), ground.key_revocation(&name(key))),
        Step::Stale(key, number) => {
            let mut consent = ground.consent(&name(key), number);
            if consent.seq < 2 {
                return None;
            }
            consent.seq -= 1;
            consent.prev = (consent.seq > 1).then(|| Digest::of(b"long ago"));
            (name(key), Payload::Grant(consent))
        }
        Step::Block => return None,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_state_follows_the_model_and_the_dead_stay_dead(steps in proptest::collection::vec(step(), 1..40)) {
        let mut ground = Ground::new();
        let mut model = Model::default();
        let mut dead: Vec<(u8, u8)> = Vec::new();
        for step in steps {
            let allowed = model.allows(step);
            match payload(&mut ground, step) {
                None => ground.block(&[]),
                Some((signer, payload)) => {
                    prop_assert_eq!(ground.verdict(&signer, &payload).is_ok(), allowed, "{:?}", step);
                    if allowed {
                        ground.make_final(&signer, &payload);
                    }
                }
            }
            for key in 0..2 {
                for number in 0..3 {
                    let force = ground.in_force(&format!("k{key}"), number);
                    prop_assert_eq!(force, model.in_force(key, number));
                    prop_assert!(!(force && dead.contains(&(key, number))), "a dead grant came back");
                    let revoked = model.grants.get(&(key, number)) == Some(&true)
                        || model.keys.get(&key) == Some(&true);
                    if revoked {
                        dead.push((key, number));
                    }
                }
            }
        }
        prop_assert_eq!(ground.state.roots().root(), ground.state.header().state_root);
    }

    /// Whoever gets which transactions in which order: what fits into a block passes the check of others.
    #[test]
    fn whatever_a_builder_builds_its_peers_accept(
        steps in proptest::collection::vec(step(), 1..30), seed in any::<u64>(),
    ) {
        let mut ground = Ground::new();
        let mut txs: Vec<Arc<Tx>> = Vec::new();
        for step in steps {
            if let Some((signer, payload)) = payload(&mut ground, step) {
                txs.push(signed(&signer, &payload));
            }
        }
        txs.sort_by_key(|tx| hbc_types::hash::domain_hash("order", &[&seed.to_be_bytes(), tx.txid().as_bytes()]));
        let (block, _) = ground.mined(&txs);
        let unknown = |_: &Digest| None;
        let checked = crate::block::check_block(&ground.state, &block, &unknown);
        prop_assert!(checked.is_ok(), "{:?}", checked.err());
    }
}
