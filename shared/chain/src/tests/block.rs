//! Making, checking and replaying blocks.

use super::*;
use crate::block::{BlockError, check_block, early_by_ms, replay_block};
use crate::header::{Header, Target};
use crate::merkle;

fn unknown(_: &Digest) -> Option<Arc<Tx>> {
    None
}

fn mine(header: Header) -> Header {
    header.mine(&AtomicBool::new(false)).unwrap()
}

impl Ground {
    /// A good block: a registration, and the grant that needs it.
    fn good(&mut self) -> Block {
        let (registration, granted) = (self.registration("k"), self.grant("k", 1));
        let txs = [signed("k", &granted), signed("auth", &registration)];
        let (block, _) = self.mined(&txs);
        assert_eq!(block.transactions.len(), 2, "the grant waits for the registration inside the block");
        block
    }

    fn check(&self, block: &Block) -> Result<Checked, BlockError> {
        check_block(&self.state, block, &unknown)
    }

    fn refusal(&self, block: &Block) -> BlockError {
        self.check(block).expect_err("refused")
    }

    /// The block a liar would make: these bytes, every root and the work right.
    fn forge(&self, transactions: Vec<Vec<u8>>) -> Block {
        let mut header = self.build(&[]).header;
        let txids: Vec<Digest> = transactions.iter().map(|tx| merkle::leaf_hash(tx)).collect();
        let mut log = self.state.log().clone();
        log.push(self.state.header().leaf_hash());
        txids.iter().for_each(|txid| log.push(*txid));
        header.tx_root = merkle::root(&txids);
        (header.log_root, header.log_size) = (log.root(), log.size());
        let mut draft = self.state.draft(header.time_ms);
        for tx in &transactions {
            // A liar's state root is that of a state in which the rule does not hold; none is right.
            let _ = Tx::parse(tx).map(|tx| draft.apply(&tx));
        }
        header.state_root = draft.state_root();
        Block { header: mine(header), transactions }
    }
}

#[test]
fn a_good_block_passes_and_two_nodes_agree() {
    let (mut one, mut two) = (Ground::new(), Ground::new());
    let block = one.good();
    let checked = one.check(&block).unwrap();
    assert_eq!(checked.log_size(), 3);
    assert_eq!(checked.log_root(), block.header.log_root);
    assert_eq!(checked.hash, block.header.hash());
    one.state.commit(checked).unwrap();
    replay_block(&mut two.state, &block).unwrap();
    assert_eq!(one.state.roots(), two.state.roots());
    assert_eq!(one.state.tip(), two.state.tip());
    assert!(two.in_force("k", 1));
}

#[test]
fn checking_changes_nothing_until_the_commit() {
    let mut ground = Ground::new();
    let before = ground.state.roots();
    let block = ground.good();
    let (first, second) = (ground.check(&block).unwrap(), ground.check(&block).unwrap());
    assert_eq!(ground.state.roots(), before);
    ground.state.commit(first).unwrap();
    assert!(ground.state.commit(second).is_err(), "it was checked against another tip");
}

#[test]
fn every_field_of_the_header_is_checked() {
    let mut ground = Ground::new();
    let block = ground.good();
    let good = block.header;
    let other = Digest::of(b"other");
    let cases = [
        (Header { height: 2, ..good }, BlockError::Height { tip: 0, found: 2 }),
        (Header { prev_hash: other, ..good }, BlockError::PrevHash),
        (Header { tx_root: other, ..good }, BlockError::TxRoot),
        (Header { log_root: other, ..good }, BlockError::LogRoot),
        (Header { log_size: 4, ..good }, BlockError::LogSize { expected: 3, found: 4 }),
        (Header { state_root: other, ..good }, BlockError::StateRoot),
        (
            Header { time_ms: START_MS, ..good },
            BlockError::TooEarly { earliest: START_MS + 1, found: START_MS },
        ),
        (Header { target: Target::from_zero_bits(7).unwrap(), ..good }, BlockError::Target),
        (Header { target: Target::from_zero_bits(9).unwrap(), ..good }, BlockError::Target),
        (Header { miner: [0; 8], ..good }, BlockError::Miner),
    ];
    for (header, error) in cases {
        let bent = Block { header: mine(header), ..block.clone() };
        assert_eq!(ground.refusal(&bent), error);
    }
}

/// Two members with two clocks must not come to two verdicts.
#[test]
fn the_clock_says_when_a_block_is_early_and_never_that_it_is_bad() {
    let mut ground = Ground::new();
    let block = ground.good();
    let now = ground.now();
    for (ahead_ms, early_ms) in [(0, 0), (30_000, 0), (30_001, 1), (3_600_000, 3_570_000)] {
        let header = mine(Header { time_ms: now.unsigned_ms() + ahead_ms, ..block.header });
        assert_eq!(early_by_ms(&header, now), early_ms);
        assert!(ground.check(&Block { header, ..block.clone() }).is_ok());
    }
}

#[test]
fn work_is_asked_for() {
    let mut ground = Ground::new();
    let block = ground.good();
    let lazy = (0..).map(|nonce| Header { nonce, ..block.header });
    let lazy = lazy.into_iter().find(|header| header.check_work().is_err()).unwrap();
    assert_eq!(ground.refusal(&Block { header: lazy, ..block }), BlockError::Work);
}

#[test]
fn the_minimum_spacing_is_kept() {
    let mut spaced = genesis();
    spaced.parameters.min_spacing_ms = 5_000;
    let ground = Ground::of(&spaced);
    let block = ground.mined(&[]).0;
    assert_eq!(block.header.time_ms, START_MS + 5_000);
    let early = Header { time_ms: START_MS + 4_999, ..block.header };
    let error = ground.refusal(&Block { header: mine(early), ..block });
    assert_eq!(error, BlockError::TooEarly { earliest: START_MS + 5_000, found: START_MS + 4_999 });
}

#[test]
fn one_unsigned_consent_spoils_the_block() {
    let mut ground = Ground::new();
    let block = ground.good();
    let mut transactions = block.transactions;
    let text = String::from_utf8(transactions[1].clone()).unwrap();
    let (signed, signature) = text.rsplit_once('.').unwrap();
    let mut other = signature.to_owned().into_bytes();
    other[0] = if other[0] == b'A' { b'B' } else { b'A' };
    let other = String::from_utf8(other).unwrap();
    transactions[1] = format!("{signed}.{other}").into_bytes();
    let forged = ground.forge(transactions);
    assert_eq!(ground.refusal(&forged), BlockError::Signature { index: 1 });
    assert_eq!(ground.state.height(), 0);
    assert!(!ground.in_force("k", 1));
}

#[test]
fn a_consent_signed_by_another_key_spoils_the_block() {
    let mut ground = Ground::new();
    let (registration, granted) = (ground.registration("k"), ground.grant("k", 1));
    let txs = [signed("auth", &registration), signed("m1", &granted)];
    let forged = ground.forge(txs.iter().map(|tx| tx.bytes().to_vec()).collect());
    let refusal = Refusal::Never { rule: Rule::Signer, excluded_by: None };
    assert_eq!(ground.refusal(&forged), BlockError::Refused { index: 1, refusal });
}

#[test]
fn a_wrong_number_spoils_the_block() {
    let mut ground = Ground::new();
    let registration = ground.registration("k");
    ground.make_final("auth", &registration);
    let gap = Consent { seq: 2, prev: Some(Digest::of(b"x")), ..ground.consent("k", 1) };
    let tx = signed("k", &Payload::Grant(gap));
    let forged = ground.forge(vec![tx.bytes().to_vec()]);
    let refusal = Refusal::NotYet(Rule::SequenceAhead);
    assert_eq!(ground.refusal(&forged), BlockError::Refused { index: 0, refusal });
}

#[test]
fn the_order_in_a_block_is_the_order_of_the_rules() {
    let mut ground = Ground::new();
    let (registration, granted) = (ground.registration("k"), ground.grant("k", 1));
    let txs = [signed("k", &granted), signed("auth", &registration)];
    let forged = ground.forge(txs.iter().map(|tx| tx.bytes().to_vec()).collect());
    let refusal = Refusal::NotYet(Rule::KeyUnknown);
    assert_eq!(ground.refusal(&forged), BlockError::Refused { index: 0, refusal });
}

#[test]
fn a_transaction_twice_spoils_the_block() {
    let mut ground = Ground::new();
    let anchor = ground.anchor(&["a"]);
    let tx = signed("storage", &anchor);
    let forged = ground.forge(vec![tx.bytes().to_vec(); 2]);
    let refusal = Refusal::Never { rule: Rule::Final, excluded_by: Some(tx.txid()) };
    assert_eq!(ground.refusal(&forged), BlockError::Refused { index: 1, refusal });
}

#[test]
fn bytes_that_are_no_transaction_spoil_the_block() {
    let ground = Ground::new();
    let forged = ground.forge(vec![b"nonsense".to_vec()]);
    assert!(matches!(ground.refusal(&forged), BlockError::Form { index: 0, .. }));
}

#[test]
fn a_missing_transaction_is_seen() {
    let mut ground = Ground::new();
    let mut block = ground.good();
    block.transactions.pop();
    assert_eq!(ground.refusal(&block), BlockError::TxRoot);
}

#[test]
fn too_much_is_refused() {
    let mut small = genesis();
    small.parameters.max_block_bytes = 300 * 1024;
    let ground = Ground::of(&small);
    let forged = ground.forge(vec![vec![b'x'; 300 * 1024]]);
    assert!(matches!(ground.refusal(&forged), BlockError::TooLarge { limit: 307_200, .. }));
    let forged = ground.forge(vec![Vec::new(); 16_385]);
    assert_eq!(ground.refusal(&forged), BlockError::TooMany(16_385));
}

#[test]
fn known_transactions_are_not_verified_again_but_must_be_the_same() {
    let mut ground = Ground::new();
    let anchor = ground.anchor(&["a"]);
    let tx = signed("storage", &anchor);
    let block = ground.mined(&[Arc::clone(&tx)]).0;
    let known = |txid: &Digest| (*txid == tx.txid()).then(|| Arc::clone(&tx));
    let checked = check_block(&ground.state, &block, &known).unwrap();
    assert!(Arc::ptr_eq(&checked.txs[0], &tx));
    let other = ground.anchor(&["b"]);
    let other = signed("storage", &other);
    let liar = |_: &Digest| Some(Arc::clone(&other));
    let checked = check_block(&ground.state, &block, &liar).unwrap();
    assert_eq!(checked.txs[0].txid(), tx.txid());
}

#[test]
fn a_builder_takes_turns_and_says_what_can_never_be() {
    let mut small = genesis();
    small.parameters.max_block_bytes = 300 * 1024;
    let mut ground = Ground::of(&small);
    let mut txs = Vec::new();
    for number in 0..1000 {
        let anchor = ground.anchor(&[&format!("root {number}")]);
        txs.push(signed("storage", &anchor));
    }
    let twice = ground.anchor(&["root 0"]);
    txs.insert(1, signed("storage", &twice));
    let (granted, registration) = (ground.grant("k", 1), ground.registration("k"));
    txs.push(signed("k", &granted));
    txs.push(signed("auth", &registration));
    let waiting = ground.grant("unregistered", 1);
    txs.push(signed("unregistered", &waiting));

    let built = ground.build(&txs);
    let kinds: Vec<_> = built.txs.iter().map(|tx| tx.payload().kind()).collect();
    assert!(kinds.contains(&"identity.key") && kinds.contains(&"record.anchor"));
    assert!(built.txs.len() < 1000, "the flood does not fit");
    let [(refused, refusal)] = built.refused.as_slice() else { panic!("{:?}", built.refused) };
    assert_eq!(refused.txid(), txs[1].txid());
    assert_eq!(refusal.rule(), Rule::Seen);
    let mined = mine(built.header);
    let block = built.finish(mined).0;
    assert!(block.encoded_len() <= 300 * 1024);
    assert!(block.encoded_len() > 290 * 1024, "and it is full");
    ground.check(&block).unwrap();
}

#[test]
fn a_patients_consent_overtakes_a_flood() {
    let mut small = genesis();
    small.parameters.max_block_bytes = 300 * 1024;
    let mut ground = Ground::of(&small);
    let registration = ground.registration("k");
    ground.make_final("auth", &registration);
    let mut txs = Vec::new();
    for number in 0..1000 {
        let anchor = ground.anchor(&[&format!("root {number}")]);
        txs.push(signed("storage", &anchor));
    }
    let granted = ground.grant("k", 1);
    txs.push(signed("k", &granted));
    let built = ground.build(&txs);
    assert!(built.txs.iter().any(|tx| tx.payload().kind() == "consent.grant"));
}

#[test]
fn without_spacing_a_block_is_still_later_than_its_parent() {
    let mut close = genesis();
    close.parameters.min_spacing_ms = 0;
    let ground = Ground::of(&close);
    let parent = ground.state.header().time_ms;
    let (mut block, _) = ground.mined(&[]);
    block.header.time_ms = parent;
    block.header = block.header.mine(&AtomicBool::new(false)).unwrap();
    let refusal = ground.refusal(&block);
    assert_eq!(refusal, BlockError::TooEarly { earliest: parent + 1, found: parent });
    block.header.time_ms = parent + 1;
    block.header = block.header.mine(&AtomicBool::new(false)).unwrap();
    assert!(check_block(&ground.state, &block, &|_| None).is_ok());
}

#[test]
fn a_rebuilt_state_is_the_same() {
    let mut ground = Ground::new();
    for number in 0..5 {
        let (registration, anchor) =
            (ground.registration(&format!("k{number}")), ground.anchor(&[&format!("{number}")]));
        let txs = [signed("auth", &registration), signed("storage", &anchor)];
        ground.block(&txs);
    }
    ground.votes(&["m1", "m2", "m3"], "member:m5", &public("m5").to_string());
    ground.block(&[]);
    let mut replayed = State::genesis(&genesis()).unwrap();
    for block in &ground.blocks {
        let read = Block::from_bytes(&block.to_bytes()).unwrap();
        replay_block(&mut replayed, &read).unwrap();
    }
    assert_eq!(replayed.roots(), ground.state.roots());
    assert_eq!(replayed.tip(), ground.state.tip());
    assert_eq!(replayed.log(), ground.state.log());
    assert_eq!(replayed.members(), ground.state.members());
    assert_eq!(replayed.anchors().leaves(), ground.state.anchors().leaves());
    let last = ground.blocks[4].txids()[1];
    assert_eq!(replayed.place(&last), ground.state.place(&last));
    let leaf = ground.state.place(&last).unwrap().leaf;
    assert_eq!(leaf, ground.blocks[4].header.log_size - 1);
}
