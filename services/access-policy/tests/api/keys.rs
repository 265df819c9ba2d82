//! Data keys, unwraps, numbers; and that no key leaves without its receipt.

use std::collections::BTreeSet;

use hbc_types::Digest;
use hbc_types::account::{AgencyType, Custody};
use hbc_types::ids::PatientId;
use hbc_types::labels::{Category, Sensitivity};
use hbc_types::purpose::Purpose;
use hbc_types::wire::access::{
    AccessPage, AnchoredItem, AnchoredRequest, DataKeys, Labels, PinPatient, UnwrapRequest, Unwrapped,
    VoidRequest,
};

use reqwest::Method;

use crate::world::{Written, labels, world, worlds};

const LAB: Category = Category::Laboratory;

fn anchored(written: &Written) -> AnchoredRequest {
    let items = written.request.items.iter().zip(&written.keys.keys).map(|(item, key)| AnchoredItem {
        labels: item.labels,
        n: key.n,
        commitment: Digest::of(item.record.as_str().as_bytes()),
    });
    AnchoredRequest {
        intent: written.request.intent.clone(),
        txid: Digest::of(b"anchor"),
        items: items.collect(),
    }
}

#[tokio::test]
async fn the_same_intent_gets_the_same_keys_and_another_request_under_it_is_refused() {
    for w in worlds().await {
        let patient = w.patient().await;
        let items = [labels(LAB), labels(Category::VitalSigns), labels(LAB)];
        let written = w.write(&patient.user, &patient.id, &items).await;
        let numbers: Vec<u64> = written.keys.keys.iter().map(|key| key.n).collect();
        assert_eq!(numbers, [1, 1, 2]);
        let path = "/internal/v1/keys/data-keys";
        let again: DataKeys = w.storage(path, Some(&patient.user), &written.request).await.ok();
        assert_eq!(again.receipt, written.keys.receipt);
        for (one, two) in again.keys.iter().zip(&written.keys.keys) {
            assert_eq!((one.n, one.dek.expose(), &one.wrapped), (two.n, two.dek.expose(), &two.wrapped));
        }
        let mut other = written.request.clone();
        other.items.pop();
        assert_eq!(w.storage(path, Some(&patient.user), &other).await.problem(), "409 conflict");
        let next = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
        assert_eq!(next.keys.keys[0].n, 3);
    }
}

#[tokio::test]
async fn a_wrap_opens_only_with_the_labels_it_was_made_for() {
    let w = world().await;
    let patient = w.patient().await;
    let hiv = Labels { category: LAB, sensitivity: Sensitivity::Hiv };
    let written = w.write(&patient.user, &patient.id, &[hiv, labels(LAB)]).await;
    let good = written.unwrap_request(Purpose::PatientRequest);
    let keys = async |request: &_| {
        let answer: Unwrapped =
            w.storage("/internal/v1/keys/unwrap", Some(&patient.user), request).await.ok();
        answer.keys.len()
    };
    assert_eq!(keys(&good).await, 2);
    let mut moved = good.clone();
    moved.items[0].labels.sensitivity = Sensitivity::Normal;
    assert_eq!(keys(&moved).await, 1, "a label changed by hand in storage");
    let mut moved = good.clone();
    moved.items[0].wrapped = good.items[1].wrapped.clone();
    assert_eq!(keys(&moved).await, 1, "a wrap moved to another record");
    let mut moved = good.clone();
    moved.items[1].version = 2;
    assert_eq!(keys(&moved).await, 1, "an old version served as new");
    let mut moved = good;
    moved.items[1].n = 77;
    assert_eq!(keys(&moved).await, 1, "a number that was never handed out");
}

#[tokio::test]
async fn numbers_end_final_or_void_and_never_both() {
    for w in worlds().await {
        let patient = w.patient().await;
        let first = w.write(&patient.user, &patient.id, &[labels(LAB), labels(LAB)]).await;
        let dead = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
        let numbers = w.numbers(&patient.user, &first).await;
        assert_eq!((numbers.sets[0].n_max, numbers.sets[0].open.pairs()), (3, [[1, 3]].as_slice()));
        assert!(w.read(&patient.user, &first).await.numbers.is_none(), "nobody asked for it");
        let (void, settled) = ("/internal/v1/keys/void", "/internal/v1/keys/anchored");
        let request = VoidRequest { intent: dead.request.intent.clone() };
        assert_eq!(w.storage(void, None, &request).await.status, 204);
        assert_eq!(w.storage(void, None, &request).await.status, 204);
        assert_eq!(w.storage(settled, None, &anchored(&dead)).await.problem(), "409 conflict");
        assert_eq!(w.storage(settled, None, &anchored(&first)).await.status, 204);
        assert_eq!(w.storage(settled, None, &anchored(&first)).await.status, 204);
        let too_late = VoidRequest { intent: first.request.intent.clone() };
        assert_eq!(w.storage(void, None, &too_late).await.problem(), "409 conflict");
        // A dead intent gets no keys, one that never asked neither.
        let path = "/internal/v1/keys/data-keys";
        assert_eq!(w.storage(path, Some(&patient.user), &dead.request).await.problem(), "409 conflict");
        let late = w.data_keys_request(&patient.user, &patient.id, &[labels(LAB)]);
        let request = VoidRequest { intent: late.intent.clone() };
        assert_eq!(w.storage(void, None, &request).await.status, 204);
        assert_eq!(w.storage(path, Some(&patient.user), &late).await.problem(), "409 conflict");
        assert!(w.read(&patient.user, &dead).await.keys.is_empty());
        let numbers = w.numbers(&patient.user, &first).await;
        let set = &numbers.sets[0];
        assert_eq!(
            (set.n_max, set.open.pairs(), set.voided.pairs()),
            (3, [].as_slice(), [[3, 3]].as_slice())
        );
        assert_eq!(numbers.jws.split('.').count(), 3);
    }
}

/// However many pieces are void, and wherever the numbers lie that are asked about.
#[tokio::test]
async fn void_numbers_are_never_unwrapped() {
    for w in worlds().await {
        let patient = w.patient().await;
        let sets = [labels(LAB), labels(LAB), labels(LAB), labels(LAB)];
        let written = w.write(&patient.user, &patient.id, &sets).await;
        let keys = async |request: &UnwrapRequest| {
            let read: Unwrapped =
                w.storage("/internal/v1/keys/unwrap", Some(&patient.user), request).await.ok();
            read.keys.into_iter().map(|key| key.record).collect::<Vec<_>>()
        };
        let asked = written.unwrap_request(Purpose::PatientRequest);
        let records: Vec<_> = asked.items.iter().map(|item| item.record.clone()).collect();
        assert_eq!(keys(&asked).await, records);
        // 2 and 3 in one piece, and more pieces than are read at once behind them.
        w.by_hand("UPDATE number_ranges SET last_n = 1").await;
        w.by_hand(
            "INSERT INTO number_ranges (patient, sensitivity, category, first_n, last_n, intent, state)
             SELECT patient, sensitivity, category, 2, 3, 'failed', 'void' FROM number_sets",
        )
        .await;
        assert_eq!(keys(&asked).await, [records[0].clone(), records[3].clone()]);
        w.by_hand(
            "WITH RECURSIVE i(k) AS (SELECT 1 UNION ALL SELECT k + 1 FROM i WHERE k < 1500)
             INSERT INTO number_ranges (patient, sensitivity, category, first_n, last_n, intent, state)
             SELECT patient, sensitivity, category, 5 + 2 * k, 5 + 2 * k, 'failed', 'void'
             FROM number_sets CROSS JOIN i",
        )
        .await;
        w.by_hand("UPDATE number_sets SET n_max = 4000").await;
        assert_eq!(keys(&asked).await, [records[0].clone(), records[3].clone()]);
        let mut far = asked.clone();
        far.items[1].n = 3_999;
        assert_eq!(
            keys(&far).await,
            [records[0].clone(), records[3].clone()],
            "its wrap says another number"
        );
        far.items[1].n = u64::MAX;
        assert_eq!(keys(&far).await, [records[0].clone(), records[3].clone()]);
    }
}

#[tokio::test]
async fn part_of_an_intent_may_become_final_before_the_rest() {
    for w in worlds().await {
        let patient = w.patient().await;
        let written = w.write(&patient.user, &patient.id, &[labels(LAB), labels(LAB), labels(LAB)]).await;
        let mut report = anchored(&written);
        let rest = report.items.split_off(1);
        assert_eq!(w.storage("/internal/v1/keys/anchored", None, &report).await.status, 204);
        assert_eq!(w.numbers(&patient.user, &written).await.sets[0].open.pairs(), [[2, 3]]);
        report.items = rest;
        assert_eq!(w.storage("/internal/v1/keys/anchored", None, &report).await.status, 204);
        assert!(w.numbers(&patient.user, &written).await.sets[0].open.is_empty());
        report.items[0].n = 99;
        let fresh = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
        report.intent = fresh.request.intent.clone();
        assert_eq!(
            w.storage("/internal/v1/keys/anchored", None, &report).await.problem(),
            "422 invalid_input"
        );
    }
}

#[tokio::test]
async fn after_a_revocation_new_keys_come_from_a_new_epoch() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let before = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    assert_eq!(w.revoke(&patient, &doctor, &grant.id).await.status, 200);
    let after = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
    assert_eq!((before.keys.keys[0].kek_epoch, after.keys.keys[0].kek_epoch), (1, 2));
    assert_ne!(before.keys.tag_keys[0].key.expose(), after.keys.tag_keys[0].key.expose());
    assert_eq!(w.read(&patient.user, &before).await.keys.len(), 1);
    assert_eq!(w.read(&patient.user, &after).await.keys.len(), 1);
}

#[tokio::test]
async fn the_directory_is_read_by_all_and_written_by_agencies_and_operators_without_receipts() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let operator = w.operator().await;
        let dir = PatientId::directory();
        let items = [labels(Category::Directory)];
        let by_operator = w.write(&operator, &dir, &items).await;
        let by_doctor = w.write(&doctor.user, &dir, &items).await;
        assert!(by_doctor.keys.receipt.is_none());
        for user in [&patient.user, &doctor.user, &operator] {
            let read = w.read(user, &by_operator).await;
            assert_eq!((read.keys.len(), read.receipt), (1, None));
        }
        let request = w.data_keys_request(&patient.user, &dir, &items);
        let denied = w.storage("/internal/v1/keys/data-keys", Some(&patient.user), &request).await;
        assert_eq!(denied.problem(), "403 denied no-grant");
    }
}

#[tokio::test]
async fn every_release_has_its_receipt() {
    let w = world().await;
    let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
    let written = w.write(&patient.user, &patient.id, &[labels(LAB), labels(LAB)]).await;
    let grant = w.grant(&patient, &doctor, w.scope()).await;
    let mut receipts = BTreeSet::new();
    for _ in 0..5 {
        receipts.insert(w.read(&doctor.user, &written).await.receipt.unwrap());
    }
    let page: AccessPage = w.get("/v1/me/accesses", &patient.user).await.ok();
    let reads: Vec<_> = page.items.iter().filter(|item| item.receipt.kind.code() == "read").collect();
    assert_eq!(reads.len(), 5);
    for item in reads {
        assert!(receipts.contains(&item.receipt.id));
        assert_eq!(item.receipt.grant, Some(grant.id.clone()));
        assert_eq!(item.receipt.records.len(), 2);
        assert_eq!(item.actor_name.as_deref(), Some("Dr. Example"));
    }
}

#[tokio::test]
async fn when_the_receipt_cannot_be_written_no_key_leaves() {
    let w = world().await;
    let patient = w.patient().await;
    let written = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
    // The receipt is the last thing of the transaction; let exactly that fail.
    w.by_hand("CREATE TRIGGER no_receipts BEFORE INSERT ON receipts BEGIN SELECT RAISE(ABORT, 'disk'); END")
        .await;
    let failed = w.try_read(&patient.user, &written, Purpose::PatientRequest).await;
    assert_eq!(failed.problem(), "500 internal");
    let request = w.data_keys_request(&patient.user, &patient.id, &[labels(LAB)]);
    let refused = w.storage("/internal/v1/keys/data-keys", Some(&patient.user), &request).await;
    assert_eq!(refused.problem(), "500 internal");
    w.by_hand("DROP TRIGGER no_receipts").await;
    let read = w.read(&patient.user, &written).await;
    let numbers = w.numbers(&patient.user, &written).await;
    assert_eq!((read.keys.len(), numbers.sets[0].n_max), (1, 1), "the failed write took no number");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_key_is_released_after_a_revocation_returned() {
    for w in worlds().await {
        let (patient, doctor) = (w.patient().await, w.agency(AgencyType::Doctor).await);
        let written = w.write(&patient.user, &patient.id, &[labels(LAB)]).await;
        for _ in 0..5 {
            let grant = w.grant(&patient, &doctor, w.scope()).await;
            let revoked = std::sync::atomic::AtomicBool::new(false);
            let reader = async || {
                for _ in 0..20 {
                    let known = revoked.load(std::sync::atomic::Ordering::SeqCst);
                    let read = w.read(&doctor.user, &written).await;
                    assert!(!known || read.keys.is_empty(), "a stale read");
                }
            };
            let revoker = async {
                tokio::time::sleep(std::time::Duration::from_millis(15)).await;
                assert_eq!(w.revoke(&patient, &doctor, &grant.id).await.status, 200);
                revoked.store(true, std::sync::atomic::Ordering::SeqCst);
            };
            tokio::join!(reader(), reader(), reader(), revoker);
            assert!(w.read(&doctor.user, &written).await.keys.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn parallel_writers_share_no_number_and_receipts_have_no_gap() {
    for w in worlds().await {
        let patient = w.patient().await;
        let items = [labels(LAB)];
        let writes = (0..24).map(|_| w.write(&patient.user, &patient.id, &items));
        let written = futures_util::future::join_all(writes).await;
        let numbers: BTreeSet<u64> = written.iter().map(|written| written.keys.keys[0].n).collect();
        assert_eq!(numbers, (1..=24).collect());
        let page: AccessPage = w.get("/v1/me/accesses?limit=200", &patient.user).await.ok();
        let mut chain = page.items;
        chain.sort_by_key(|item| item.receipt.n);
        let mut last = None;
        for (item, n) in chain.iter().zip(1_u64..) {
            assert_eq!((item.receipt.n, item.receipt.prev), (n, last));
            last = Some(item.leaf);
        }
        assert_eq!(chain.len(), 1 + 24, "a sign-in and the writes");
    }
}

/// A root key that two encodings have, or that everybody can sign with, is none.
#[tokio::test]
async fn only_a_proper_root_key_is_pinned() {
    let w = world().await;
    let mut identity = [0; 32];
    identity[0] = 1;
    // y ≥ p = 2^255 - 19.
    let beyond = (0xed..=0xff_u8).map(|low| {
        let mut bytes = [0xff; 32];
        (bytes[0], bytes[31]) = (low, 0x7f);
        bytes
    });
    for bytes in beyond.chain([identity]) {
        let pin = PinPatient {
            patient: PatientId::random(&w.random),
            root_public_key: bytes.as_slice().into(),
            custody: Custody::Server,
            recovery_public_key: None,
            certificate: None,
        };
        let refused = w.auth(Method::POST, "/internal/v1/patients", &pin).await;
        assert_eq!(refused.problem(), "422 invalid_input", "{bytes:02x?}");
    }
}

/// However many uploads fail, in whatever order, their numbers are as few rows as can be.
#[tokio::test]
async fn void_numbers_that_touch_are_one_range() {
    for w in worlds().await {
        let patient = w.patient().await;
        let mut written = Vec::new();
        for _ in 0..12 {
            written.push(w.write(&patient.user, &patient.id, &[labels(LAB), labels(LAB)]).await);
        }
        // All but the fifth, whose numbers are 9 and 10.
        for index in [3, 0, 1, 11, 2, 9, 6, 10, 8, 5, 7] {
            let void = VoidRequest { intent: written[index].request.intent.clone() };
            for _again in 0..2 {
                assert_eq!(w.storage("/internal/v1/keys/void", None, &void).await.status, 204);
            }
        }
        assert_eq!(w.by_hand("UPDATE number_ranges SET state = state WHERE state = 'void'").await, 2);
        let everything: Vec<usize> = {
            let mut opened = Vec::new();
            for (index, one) in written.iter().enumerate() {
                if w.read(&patient.user, one).await.keys.len() == 2 {
                    opened.push(index);
                }
            }
            opened
        };
        assert_eq!(everything, [4]);
        let kept = anchored(&written[4]);
        assert_eq!(w.storage("/internal/v1/keys/anchored", None, &kept).await.status, 204);
    }
}
