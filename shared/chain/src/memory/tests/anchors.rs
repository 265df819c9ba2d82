//! Answers about anchors, once there are more of them than a page has.

use super::*;
use crate::payload::Payload;
use crate::proof::{AnchorsProof, Content, Document, ProofError};
use crate::rtree::{AnchorLeaf, Child, Node, PAGE_ANCHORS, Query, RtreeError};

/// 4,500 anchors in five blocks, the page's end inside the last.
fn anchored() -> Course {
    let mut course = Course::new();
    for block in 0..5_i32 {
        let txs: Vec<_> = (0..900_i32)
            .map(|number| {
                let root = format!("{block} {number}");
                // Days that are scattered over eleven years, and spans of a day to a month.
                let day0 = 18_000 + (number * 7_919 + block * 104_729) % 4_000;
                course.anchor_of(day0, day0 + number % 31, &[&root])
            })
            .collect();
        course.append(&txs);
    }
    course
}

/// What the transactions of the chain say, read one after the other.
fn scan(course: &Course, query: &Query) -> Vec<AnchorLeaf> {
    let mut found: Vec<_> = course
        .transactions
        .iter()
        .flat_map(|(tx, height)| match tx.payload() {
            Payload::Anchor(anchor) => AnchorLeaf::all_of(anchor, *height, tx.txid()).collect(),
            _ => Vec::new(),
        })
        .filter(|leaf| leaf.day0 <= query.to && leaf.day1 >= query.from && leaf.height <= query.as_of)
        .collect();
    found.sort_unstable();
    found
}

fn answer(course: &Course, query: Query) -> AnchorsProof {
    course.chain.anchors_view().unwrap().prove(query, usize::MAX).unwrap()
}

/// Takes the first anchor out of the first opened bottom node.
fn take_from_page(child: &mut Child) -> bool {
    match child {
        Child::Closed { .. } => false,
        Child::Open(Node::Anchors(anchors)) => anchors.pop().is_some(),
        Child::Open(Node::Children(children)) => children.iter_mut().any(take_from_page),
    }
}

#[test]
fn a_page_that_blocks_sealed_answers_as_a_scan_of_their_transactions_does() {
    let course = anchored();
    let sealed = course.chain.state().anchors();
    assert_eq!((sealed.pages().len(), sealed.tail().len()), (1, 4_500 - PAGE_ANCHORS));
    let days = [(18_000, 22_100), (18_000, 18_000), (19_500, 19_531), (21_990, 22_050), (10_000, 12_000)];
    let mut counts = Vec::new();
    for (from, to) in days {
        for as_of in [0, 1, 3, 5] {
            let query = Query { from, to, as_of };
            let content = course.check(&Document::Anchors(answer(&course, query))).content;
            let Content::Anchors(facts) = content else { panic!("{content:?}") };
            assert_eq!(facts.anchors, scan(&course, &query), "{query:?}");
            counts.push(facts.anchors.len());
        }
    }
    assert_eq!(counts[3], 4_500);
    assert!(counts[11] > 30 && counts[4] < counts[7] && counts[19] == 0, "{counts:?}");
}

#[test]
fn an_anchor_withheld_from_a_page_or_from_the_tail_is_missed() {
    let course = anchored();
    let query = Query { from: 19_500, to: 19_531, as_of: 5 };
    let refusal = |proof: AnchorsProof| {
        let bytes = Document::Anchors(proof).to_bytes().unwrap();
        proof::verify(&bytes, &proof::Trust::Chain(course.chain.id())).unwrap_err()
    };
    let mut from_page = answer(&course, query);
    assert!(take_from_page(&mut from_page.answer.pages[0].page));
    assert_eq!(refusal(from_page), ProofError::Anchors(RtreeError::Shape));
    let mut from_tail = answer(&course, query);
    from_tail.answer.tail.remove(7);
    assert_eq!(refusal(from_tail), ProofError::Anchors(RtreeError::Anchors));
    let mut whole_page = answer(&course, query);
    whole_page.answer.pages.clear();
    assert_eq!(refusal(whole_page), ProofError::Anchors(RtreeError::Pages));
}
