//! The store against a file: what it keeps, what it refuses, what it notices.

use super::*;

fn block(height: u64) -> StoredBlock {
    StoredBlock { height, header: vec![1; 180], body: vec![0; 4], certificate: format!("note {height}") }
}

fn promise(n: u8) -> StoredPromise {
    StoredPromise { txid: Digest::of(&[n]), jws: vec![n; 10] }
}

async fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(
        &folder.path().join("ledger.db"),
        true,
        SealKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32])),
    )
    .await
    .unwrap()
}

#[tokio::test]
async fn blocks_are_only_ever_added() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    for height in 0..5 {
        store.commit(&block(height), &[]).await.unwrap();
    }
    assert!(store.commit(&block(3), &[]).await.is_err());
    for change in ["UPDATE blocks SET certificate = 'x'", "DELETE FROM blocks WHERE height = 4"] {
        let mut writer = store.writer.lock().await;
        assert!(sqlx::query(AssertSqlSafe(change)).execute(&mut *writer).await.is_err(), "{change}");
    }
    let mut reader = store.blocks(1).await.unwrap();
    let heights: Vec<u64> = reader.read(3).await.unwrap().iter().map(|block| block.height).collect();
    assert_eq!(heights, [1, 2, 3]);
    assert_eq!(reader.read(3).await.unwrap(), [block(4)]);
    assert!(reader.read(3).await.unwrap().is_empty());
    assert_eq!(store.block(9).await.unwrap(), None);
}

#[tokio::test]
async fn promises_outlive_the_store_until_they_are_kept_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let all: Vec<_> = (0..250).map(promise).collect();
    store.add_promises(&all, 7).await.unwrap();
    store.add_promises(&all[..2], 8).await.unwrap();
    store.close().await.unwrap();
    let store = open(&folder).await;
    assert_eq!(store.promises().await.unwrap(), all);
    let kept: Vec<_> = all.iter().skip(2).map(|promise| promise.txid).collect();
    store.commit(&block(0), &kept).await.unwrap();
    let refusal = StoredRefusal {
        txid: all[0].txid,
        jws: all[0].jws.clone(),
        reason: "too late".to_owned(),
        excluded_by: Some(Digest::of(b"by")),
    };
    store.refuse(std::slice::from_ref(&refusal), 9).await.unwrap();
    assert_eq!(store.promises().await.unwrap(), [all[1].clone()]);
    assert_eq!(store.refusal(&all[0].txid).await.unwrap(), Some(refusal));
    assert_eq!(store.refusal(&all[1].txid).await.unwrap(), None);
    store.forget_promises(&[all[1].txid]).await.unwrap();
    assert!(store.promises().await.unwrap().is_empty());
}

#[tokio::test]
async fn own_writes_leave_the_file_untouched_and_foreign_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(&block(0), &[]).await.unwrap();
    assert!(!store.untouched().await.unwrap(), "nothing was verified yet");
    let stamp = store.look().await.unwrap();
    store.accept(stamp).await;
    assert!(store.untouched().await.unwrap());
    store.add_promises(&[promise(1)], 0).await.unwrap();
    store.commit(&block(1), &[]).await.unwrap();
    assert!(store.untouched().await.unwrap(), "own writes move the stamp along");
    let mut foreign = Store::options(&store.path).connect().await.unwrap();
    sqlx::query("DELETE FROM promises").execute(&mut foreign).await.unwrap();
    foreign.close().await.unwrap();
    assert!(!store.untouched().await.unwrap(), "another connection wrote");
    let stamp = store.look().await.unwrap();
    store.accept(stamp).await;
    let file = std::fs::OpenOptions::new().write(true).open(&store.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0], 3_000).unwrap();
    assert!(!store.untouched().await.unwrap(), "somebody wrote into the file");
    store.commit(&block(2), &[]).await.unwrap();
    assert!(!store.untouched().await.unwrap(), "an own write does not hide it");
}

#[tokio::test]
async fn damage_is_told_from_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    std::fs::write(&path, b"this is no database, but long enough to be looked at as one".repeat(20)).unwrap();
    assert!(
        Store::open(&path, true, SealKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32])))
            .await
            .unwrap_err()
            .is_damage()
    );
    let missing = Store::open(
        &folder.path().join("none.db"),
        false,
        SealKey::of(&ed25519_dalek::SigningKey::from_bytes(&[7; 32])),
    )
    .await
    .unwrap_err();
    assert!(!missing.is_damage(), "{missing:?}");
    assert!(!StoreError::Io(std::io::Error::other("disk full")).is_damage());
    assert!(StoreError::Shape("height").is_damage());
}

#[tokio::test]
async fn evidence_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let evidence =
        StoredEvidence { kind: "store".into(), member: Some([1; 32]), height: 4, detail: b"proof".to_vec() };
    store.add_evidence(&evidence, 1).await.unwrap();
    store.add_evidence(&evidence, 2).await.unwrap();
    assert_eq!(store.evidence_count().await.unwrap(), 1);
}
