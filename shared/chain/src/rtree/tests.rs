//! Pages of the R-tree and answers that leave nothing out.

use std::sync::OnceLock;

use proptest::prelude::*;

use super::*;

/// Numbers that look random and are the same each time.
fn random(seed: u64, at: u64) -> u64 {
    let digest = domain_hash("test", &[&seed.to_be_bytes(), &at.to_be_bytes()]);
    digest.as_bytes().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

/// Anchors as a ledger has them: heights ascend, days lie anywhere in thirty years, some spans are long.
fn anchors(count: u64, seed: u64) -> Vec<AnchorLeaf> {
    (0..count)
        .map(|at| {
            let number = random(seed, at);
            let day0 = i32::try_from(number % 11_000).unwrap() + 9_000;
            let span = if number & 0x0f00_0000 == 0 { 1_000 } else { 31 };
            let day1 = day0 + i32::try_from((number >> 32) % span).unwrap();
            let txid = Digest::of(&number.to_be_bytes());
            AnchorLeaf { day0, day1, height: at / 37 + 1, txid, segment: 0 }
        })
        .collect()
}

struct Index {
    all: Vec<AnchorLeaf>,
    pages: Vec<Page>,
    anchors: Digest,
    pages_root: Digest,
}

impl Index {
    fn of(all: Vec<AnchorLeaf>) -> Self {
        let pages: Vec<Page> =
            all.chunks_exact(PAGE_ANCHORS).map(|run| Page::complete(run).unwrap()).collect();
        let hashes: Vec<Digest> = all.iter().map(AnchorLeaf::leaf_hash).collect();
        let leaves: Vec<Digest> = pages.iter().map(Page::leaf_hash).collect();
        Self { all, pages, anchors: merkle::root(&hashes), pages_root: merkle::root(&leaves) }
    }

    fn prove(&self, query: &Query) -> Completeness {
        let tail = &self.all[self.pages.len() * PAGE_ANCHORS..];
        Completeness::prove(&self.pages, tail, query, usize::MAX).unwrap()
    }

    fn verify(&self, proof: &Completeness, query: &Query) -> Result<Vec<AnchorLeaf>, RtreeError> {
        proof.verify(query, &self.anchors, &self.pages_root)
    }

    fn scan(&self, query: &Query) -> Vec<AnchorLeaf> {
        let mut found: Vec<_> = self.all.iter().filter(|anchor| query.matches(anchor)).copied().collect();
        found.sort_unstable();
        found
    }
}

fn large() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| Index::of(anchors(100_000, 1)))
}

fn small() -> &'static Index {
    static INDEX: OnceLock<Index> = OnceLock::new();
    INDEX.get_or_init(|| Index::of(anchors(2 * 4096 + 100, 2)))
}

fn query() -> impl Strategy<Value = Query> {
    (8_900_i32..20_200, prop_oneof![0_i32..3, 0_i32..400], 0_u64..3_000)
        .prop_map(|(from, days, as_of)| Query { from, to: from + days, as_of })
}

#[test]
fn an_anchor_has_50_bytes_and_negative_days() {
    let anchor = AnchorLeaf { day0: -2, day1: 1, height: 3, txid: Digest::of(b"tx"), segment: 259 };
    let bytes = anchor.to_bytes();
    assert_eq!(bytes[..16], [255, 255, 255, 254, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 3]);
    assert_eq!(bytes[16..48], *anchor.txid.as_bytes());
    assert_eq!(bytes[48..], [1, 3]);
}

#[test]
fn a_page_is_sealed_of_4096_and_whatever_their_order_was() {
    let mut run = anchors(4096, 3);
    assert!(Page::complete(&run[1..]).is_none());
    let page = Page::complete(&run).unwrap();
    run.reverse();
    let reversed = Page::complete(&run).unwrap();
    assert_eq!(page.top(), reversed.top());
    assert_ne!(page.run, reversed.run, "the run's root knows the order");
}

#[test]
fn indexes_of_all_sizes_around_a_page_answer() {
    let query = Query { from: 10_000, to: 10_100, as_of: 100 };
    for size in [0, 1, 2, 4095, 4096, 4097, 8191, 8192, 8193, 3 * 4096 + 5] {
        let index = Index::of(anchors(size, 4));
        assert_eq!(index.verify(&index.prove(&query), &query), Ok(index.scan(&query)), "{size}");
    }
}

#[test]
fn a_narrow_question_opens_little() {
    let index = large();
    let query = Query { from: 12_000, to: 12_001, as_of: u64::MAX };
    let proof = index.prove(&query);
    let text = serde_json::to_vec(&proof).unwrap();
    let read: Completeness = serde_json::from_slice(&text).unwrap();
    assert_eq!(index.verify(&read, &query), Ok(index.scan(&query)));
    let opened = opened(&proof);
    assert!(opened < index.all.len() / 4, "{opened} of {}", index.all.len());
}

fn opened(proof: &Completeness) -> usize {
    fn below(child: &Child) -> usize {
        match child {
            Child::Closed { .. } => 0,
            Child::Open(Node::Anchors(anchors)) => anchors.len(),
            Child::Open(Node::Children(children)) => children.iter().map(below).sum(),
        }
    }
    proof.pages.iter().map(|page| below(&page.page)).sum()
}

#[test]
fn a_late_anchor_cannot_be_left_out() {
    let index = small();
    let query = Query { from: i32::MIN, to: i32::MAX, as_of: u64::MAX };
    let mut proof = index.prove(&query);
    proof.tail.pop();
    assert_eq!(index.verify(&proof, &query), Err(RtreeError::Anchors));
    // Nor by passing off everything as one page's run.
    proof.tail.clear();
    proof.pages[1].run = index.anchors;
    assert!(index.verify(&proof, &query).is_err());
}

#[test]
fn a_page_cannot_be_left_out_or_closed() {
    let index = small();
    let query = Query { from: i32::MIN, to: i32::MAX, as_of: u64::MAX };
    let mut proof = index.prove(&query);
    proof.pages.pop();
    assert_eq!(index.verify(&proof, &query), Err(RtreeError::Pages));

    let (bounds, hash) = index.pages[0].top();
    let mut proof = index.prove(&query);
    proof.pages[0].page = Child::Closed { bounds, hash };
    assert_eq!(index.verify(&proof, &query), Err(RtreeError::Opened));
    // A lie about the box is seen, because the parent's hash covers it.
    proof.pages[0].page = Child::Closed { bounds: Bounds { height0: 1, day0: 1, day1: 0, ..bounds }, hash };
    let narrow = Query { from: 5, to: 6, as_of: 1 };
    assert!(index.verify(&proof, &narrow).is_err());
}

/// What is counted as text is never less than the text, and a proof that fits its limit is the whole proof.
#[test]
fn a_proof_stays_within_its_limit() {
    let mut all = anchors(2 * 4096 + 100, 5);
    for (at, anchor) in all.iter_mut().enumerate().filter(|(at, _)| at % 3 == 0) {
        // The longest numbers there can be.
        (anchor.day0, anchor.day1) = (i32::MIN, -2_000_000_000);
        anchor.height = u64::MAX - u64::try_from(at).unwrap();
    }
    let index = Index::of(all);
    let tail = &index.all[2 * PAGE_ANCHORS..];
    let everything = Query { from: i32::MIN, to: i32::MAX, as_of: u64::MAX };
    let nothing = Query { from: i32::MAX, to: i32::MAX, as_of: 0 };
    for query in [everything, nothing, Query { from: 12_000, to: 12_100, as_of: u64::MAX }] {
        let whole = index.prove(&query);
        let bytes = serde_json::to_vec(&whole).unwrap().len();
        let prove = |limit| Completeness::prove(&index.pages, tail, &query, limit);
        assert_eq!(prove(bytes - 32), None, "{query:?}");
        assert_eq!(prove(2 * bytes), Some(whole), "{query:?}");
    }
}

/// All opened bottom nodes of a proof.
fn bottoms(proof: &mut Completeness) -> Vec<&mut Vec<AnchorLeaf>> {
    fn below<'a>(child: &'a mut Child, all: &mut Vec<&'a mut Vec<AnchorLeaf>>) {
        match child {
            Child::Closed { .. } => {}
            Child::Open(Node::Anchors(anchors)) => all.push(anchors),
            Child::Open(Node::Children(children)) => {
                children.iter_mut().for_each(|child| below(child, all));
            }
        }
    }
    let mut all = Vec::new();
    proof.pages.iter_mut().for_each(|page| below(&mut page.page, &mut all));
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn answers_are_those_of_a_linear_scan(query in query()) {
        let index = large();
        prop_assert_eq!(index.verify(&index.prove(&query), &query), Ok(index.scan(&query)));
    }

    #[test]
    fn a_withheld_or_changed_anchor_is_seen(query in query(), pick in any::<u32>(), how in 0_u8..4) {
        let index = small();
        let pick = usize::try_from(pick).unwrap();
        let mut proof = index.prove(&query);
        let mut opened = bottoms(&mut proof);
        prop_assume!(!opened.is_empty());
        let place = pick % opened.len();
        let anchors = &mut *opened[place];
        let at = pick % anchors.len();
        match how {
            0 => { anchors.remove(at); }
            1 => anchors[at].height += 1,
            2 => anchors[at].day0 -= 1,
            _ => anchors[at].txid = Digest::of(b"another"),
        }
        prop_assert!(index.verify(&proof, &query).is_err());
    }

    #[test]
    fn another_height_of_asking_answers_for_itself_or_not_at_all(one in query(), as_of in 0_u64..400) {
        let index = small();
        let other = Query { as_of, ..one };
        let answer = index.verify(&index.prove(&one), &other);
        prop_assert!(answer.is_err() || answer == Ok(index.scan(&other)));
    }

    #[test]
    fn a_dropped_page_is_seen(query in query(), pick in 0_usize..2) {
        let index = small();
        let mut proof = index.prove(&query);
        proof.pages.remove(pick);
        prop_assert!(index.verify(&proof, &query).is_err());
    }

    #[test]
    fn an_anchor_withheld_from_the_tail_is_seen(query in query(), pick in 0_usize..100) {
        let index = small();
        let mut proof = index.prove(&query);
        proof.tail.remove(pick);
        prop_assert_eq!(index.verify(&proof, &query), Err(RtreeError::Anchors));
    }

    #[test]
    fn a_narrowed_box_is_seen(query in query(), pick in any::<u32>(), side in 0_u8..3) {
        let index = small();
        let mut proof = index.prove(&query);
        let page = &mut proof.pages[usize::try_from(pick).unwrap() % 2];
        let (mut bounds, hash) = index.pages[usize::try_from(pick).unwrap() % 2].top();
        prop_assume!(query.meets(&bounds));
        match side {
            0 => bounds.day0 = query.to + 1,
            1 => bounds.day1 = query.from - 1,
            _ => bounds.height0 = query.as_of + 1,
        }
        page.page = Child::Closed { bounds, hash };
        prop_assert_eq!(index.verify(&proof, &query), Err(RtreeError::Pages));
    }

    #[test]
    fn a_proof_answers_its_own_question_only(one in query(), other in query()) {
        let index = small();
        let answer = index.verify(&index.prove(&one), &other);
        prop_assert!(answer.is_err() || answer == Ok(index.scan(&other)));
    }
}

#[test]
fn the_document_states_this_page() {
    let run: Vec<AnchorLeaf> = (0..4096_u32)
        .map(|number| {
            let day0 = i32::try_from(number % 900).unwrap();
            let txid = Digest::of(&number.to_be_bytes());
            let segment = u16::try_from(number % 3).unwrap();
            AnchorLeaf { day0, day1: day0 + 3, height: u64::from(number / 50), txid, segment }
        })
        .collect();
    let page = Page::complete(&run).unwrap();
    let (Bounds { day0, day1, height0, height1 }, top) = page.top();
    let (over_run, leaf) = (page.run, page.leaf_hash());
    let words = format!(
        "Box {day0}, {day1}, {height0}, {height1}; top node `{top}`; root over the run `{over_run}`; leaf of the page `{leaf}`."
    );
    let document = include_str!("../../../../docs/FORMATS.md");
    let document = document.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(document.contains(&words), "docs/FORMATS.md: {words}");
}
