//! The store against a file: what it keeps, what it refuses, what it notices.

use hbc_chain::merkle::leaf_hash;
use sqlx::AssertSqlSafe;

use super::*;
use hbc_db::disk::beside;

fn block(height: u64) -> StoredBlock {
    StoredBlock { height, header: vec![1; 180], body: vec![0; 4], certificate: format!("note {height}") }
}

fn promise(n: u8) -> StoredPromise {
    StoredPromise { txid: leaf_hash(&[n; 10]), jws: vec![n; 10] }
}

async fn open(folder: &tempfile::TempDir) -> Store {
    Store::open(&folder.path().join("ledger.db"), true, key(7)).await.unwrap()
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
        assert!(
            sqlx::query(AssertSqlSafe(change)).execute(&mut writer.connection).await.is_err(),
            "{change}"
        );
    }
    let mut reader = store.blocks(1).await.unwrap();
    let heights: Vec<u64> = reader.read(3).await.unwrap().iter().map(|block| block.height).collect();
    assert_eq!(heights, [1, 2, 3]);
    assert_eq!(reader.read(3).await.unwrap(), [block(4)]);
    assert!(reader.read(3).await.unwrap().is_empty());
    assert_eq!(store.block(9).await.unwrap(), None);
}

#[tokio::test]
async fn a_piece_ends_with_the_block_that_reaches_its_bytes_and_the_next_is_read_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    for height in 0..7 {
        store.commit(&block(height), &[]).await.unwrap();
    }
    let each = usize::try_from(block(0).bytes()).unwrap();
    let mut reader = store.blocks(0).await.unwrap();
    for (most_bytes, expected) in [(1, 1), (each, 1), (each + 1, 2), (100 * each, 4)] {
        assert_eq!(reader.read_within(4, most_bytes).await.unwrap().len(), expected, "{most_bytes} bytes");
        reader.seek(0);
    }
    let mut pieces = ReadAhead::begin(reader, 3);
    let mut read = Vec::new();
    for length in [3, 3, 1, 0, 0] {
        let piece = pieces.next().await.unwrap();
        assert_eq!(piece.len(), length);
        read.extend(piece);
    }
    assert_eq!(read, (0..7).map(block).collect::<Vec<_>>());
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

fn evidence(n: u8) -> StoredEvidence {
    StoredEvidence { kind: "store".into(), member: Some([n; 32]), height: 4, detail: vec![n; 20] }
}

fn refusal(n: u8) -> StoredRefusal {
    StoredRefusal { txid: promise(n).txid, jws: vec![n; 10], reason: "late".to_owned(), excluded_by: None }
}

fn key(n: u8) -> MacKey {
    MacKey::of(&ed25519_dalek::SigningKey::from_bytes(&[n; 32]))
}

async fn verified(store: &Store) {
    store.verification().await.unwrap().accept();
    assert!(store.untouched().await.unwrap());
}

#[tokio::test]
async fn own_writes_leave_the_files_untouched_and_foreign_ones_do_not() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(&block(0), &[]).await.unwrap();
    assert!(!store.untouched().await.unwrap(), "nothing was verified yet");
    verified(&store).await;
    store.add_promises(&[promise(1)], 0).await.unwrap();
    assert!(store.untouched().await.unwrap(), "own writes move the stamp along");
    store.commit(&block(1), &[]).await.unwrap();
    assert!(store.untouched().await.unwrap());
    let mut foreign = Store::options(&store.path).connect().await.unwrap();
    sqlx::query("DELETE FROM promises").execute(&mut foreign).await.unwrap();
    foreign.close().await.unwrap();
    assert!(!store.untouched().await.unwrap(), "another connection wrote");
    verified(&store).await;
    let write = |path: &Path, at| {
        let file = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &[0], at).unwrap();
    };
    write(&store.path, 3_000);
    assert!(!store.untouched().await.unwrap(), "somebody wrote into the file");
    store.commit(&block(2), &[]).await.unwrap();
    assert!(!store.untouched().await.unwrap(), "an own write does not hide it");
    verified(&store).await;
    store.add_promises(&[promise(2)], 0).await.unwrap();
    write(&beside(&store.path, "-wal"), 200);
    assert!(!store.untouched().await.unwrap(), "somebody wrote into the journal");
}

#[tokio::test]
async fn a_changed_journal_is_found_though_its_times_are_put_back_and_does_not_reach_the_main_file() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(&block(0), &[]).await.unwrap();
    verified(&store).await;
    store.add_promises(&[promise(1)], 0).await.unwrap();
    let path = beside(&store.path, "-wal");
    let bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(10).position(|window| window == [1; 10]).unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    let before = file.metadata().unwrap().modified().unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[2], at as u64).unwrap();
    file.set_modified(before).unwrap();
    assert!(store.untouched().await.unwrap(), "the times say nothing");
    store.commit(&block(1), &[]).await.unwrap();
    assert!(!store.untouched().await.unwrap());
    assert_eq!(store.check_pages().await.unwrap(), Some(Unsound::Journal));
    assert!(std::fs::metadata(&path).unwrap().len() > 0, "what was found stays where it is");
}

#[tokio::test]
async fn own_writes_during_a_verification_do_no_harm_and_foreign_ones_show() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let verification = store.verification().await.unwrap();
    store.add_promises(&[promise(1)], 0).await.unwrap();
    store.commit(&block(0), &[]).await.unwrap();
    verification.accept();
    assert!(store.untouched().await.unwrap());
    let verification = store.verification().await.unwrap();
    let file = std::fs::OpenOptions::new().write(true).open(&store.path).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0], 3_000).unwrap();
    store.commit(&block(1), &[]).await.unwrap();
    verification.accept();
    assert!(!store.untouched().await.unwrap());
}

#[tokio::test]
async fn a_file_or_journal_that_is_deleted_shows_and_ends_no_write() {
    for suffix in ["", "-wal"] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.commit(&block(0), &[]).await.unwrap();
        verified(&store).await;
        store.add_promises(&[promise(1)], 0).await.unwrap();
        std::fs::remove_file(beside(&store.path, suffix)).unwrap();
        assert!(!store.untouched().await.unwrap(), "`{suffix}`");
        store.commit(&block(1), &[]).await.unwrap();
        store.add_promises(&[promise(2)], 0).await.unwrap();
        assert!(!store.untouched().await.unwrap(), "`{suffix}`");
    }
}

#[tokio::test]
async fn somebody_who_reads_the_journal_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(&block(0), &[]).await.unwrap();
    verified(&store).await;
    let reader = store.fixed().await.unwrap();
    let began = std::time::Instant::now();
    store.commit(&block(1), &[]).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "it does not wait until the reader is done");
    assert!(store.untouched().await.unwrap());
    assert_eq!(store.block(1).await.unwrap(), Some(block(1)));
    assert_eq!(store.check_pages().await.unwrap(), None, "a journal that is not folded in is no damage");
    reader.close().await.unwrap();
    store.commit(&block(2), &[]).await.unwrap();
    assert_eq!(std::fs::metadata(beside(&store.path, "-wal")).unwrap().len(), 0);
    assert_eq!(store.check_pages().await.unwrap(), None);
}

#[tokio::test]
async fn a_row_that_goes_while_nobody_looks_is_missed_at_the_next_start() {
    for (change, found) in [
        ("DELETE FROM promises WHERE seq = 1", "multiset_hash"),
        ("DELETE FROM refusals", "multiset_hash"),
        ("DELETE FROM evidence WHERE rowid = 2", "multiset_hash"),
        ("DELETE FROM multiset_hash", "multiset_hash"),
        ("UPDATE multiset_hash SET entries = entries - 1", "multiset_hash"),
        ("UPDATE evidence SET digest = zeroblob(32) WHERE rowid = 1", "evidence"),
        ("INSERT INTO blocks VALUES (-1, x'', x'', '')", "blocks"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let store = open(&folder).await;
        store.add_promises(&[promise(1), promise(2)], 5).await.unwrap();
        store.refuse(&[refusal(3)], 6).await.unwrap();
        for n in [1, 2] {
            store.add_evidence(&evidence(n), 7).await.unwrap();
        }
        store.close().await.unwrap();
        let store = open(&folder).await;
        assert_eq!(store.take_inventory().await.unwrap(), None);
        store.close().await.unwrap();
        let mut foreign = Store::options(&folder.path().join("ledger.db")).connect().await.unwrap();
        sqlx::query(AssertSqlSafe(change)).execute(&mut foreign).await.unwrap();
        foreign.close().await.unwrap();
        let store = open(&folder).await;
        assert_eq!(store.take_inventory().await.unwrap(), Some(Unsound::Row(found)), "{change}");
        assert_eq!(store.check_rows().await.unwrap(), Some(Unsound::Row(found)), "{change}");
    }
}

#[tokio::test]
async fn rows_of_the_key_before_are_sealed_anew_and_then_need_it_no_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    let signing = |n| ed25519_dalek::SigningKey::from_bytes(&[n; 32]);
    let store = Store::open(&path, true, key(7)).await.unwrap();
    store.add_promises(&[promise(1)], 5).await.unwrap();
    store.refuse(&[refusal(2)], 6).await.unwrap();
    store.add_evidence(&evidence(3), 7).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&path, true, key(8)).await.unwrap();
    assert_eq!(store.take_inventory().await.unwrap(), Some(Unsound::Row("promises")), "a stranger's");
    store.close().await.unwrap();
    let both = MacKey::of(&signing(8)).or_by(&signing(7));
    let store = Store::open(&path, true, both).await.unwrap();
    assert_eq!(store.take_inventory().await.unwrap(), None);
    store.add_promises(&[promise(4)], 8).await.unwrap();
    store.close().await.unwrap();
    let store = Store::open(&path, true, key(8)).await.unwrap();
    assert_eq!(store.take_inventory().await.unwrap(), None);
    assert_eq!(store.refusal(&promise(2).txid).await.unwrap(), Some(refusal(2)));
    assert_eq!(store.evidence(&Digest::of(&evidence(3).detail)).await.unwrap(), Some(vec![3; 20]));
    assert_eq!(store.promises().await.unwrap(), [promise(1), promise(4)]);
}

#[tokio::test]
async fn a_refusal_and_a_document_are_served_as_they_were_written_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let (txid, digest) = (promise(2).txid, Digest::of(&evidence(3).detail));
    let put = async |store: &Store| {
        store.refuse(&[refusal(2)], 6).await.unwrap();
        store.add_evidence(&evidence(3), 7).await.unwrap();
    };
    put(&store).await;
    let mut foreign = Store::options(&store.path).connect().await.unwrap();
    for change in [
        "UPDATE refusals SET reason = 'because'",
        "UPDATE refusals SET excluded_by = zeroblob(32)",
        "DELETE FROM refusals",
    ] {
        sqlx::query(AssertSqlSafe(change)).execute(&mut foreign).await.unwrap();
        assert!(matches!(store.refusal(&txid).await, Err(StoreError::Row("refusals"))), "{change}");
    }
    for change in ["UPDATE evidence SET detail = x'00'", "DELETE FROM evidence"] {
        sqlx::query(AssertSqlSafe(change)).execute(&mut foreign).await.unwrap();
        assert!(matches!(store.evidence(&digest).await, Err(StoreError::Row("evidence"))), "{change}");
    }
    assert_eq!(store.refusal(&promise(9).txid).await.unwrap(), None);
    assert_eq!(store.evidence(&Digest::of(b"none")).await.unwrap(), None);
}

#[tokio::test]
async fn the_latest_refusals_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    let numbered = |n: usize| StoredRefusal { txid: Digest::of(&n.to_be_bytes()), ..refusal(1) };
    let all: Vec<_> = (0..MOST_REFUSALS + 5).map(numbered).collect();
    store.refuse(&all[..MOST_REFUSALS], 1).await.unwrap();
    store.refuse(&all[MOST_REFUSALS..], 2).await.unwrap();
    assert_eq!(store.refusal(&all[4].txid).await.unwrap(), None);
    assert_eq!(store.refusal(&all[5].txid).await.unwrap(), Some(all[5].clone()));
    assert_eq!(store.check_rows().await.unwrap(), None);
    store.close().await.unwrap();
    let store = open(&folder).await;
    assert_eq!(store.take_inventory().await.unwrap(), None);
    store.refuse(&[numbered(99_999)], 3).await.unwrap();
    assert_eq!(store.refusal(&all[5].txid).await.unwrap(), None, "the oldest goes, after a restart too");
}

#[tokio::test]
async fn the_damaged_database_is_closed_without_a_byte_of_it_changing() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.commit(&block(0), &[]).await.unwrap();
    store.add_promises(&[promise(1)], 5).await.unwrap();
    let files = [store.path.clone(), beside(&store.path, "-wal")];
    // By another process: closing a file here would end the locks that SQLite has on it.
    let read = || {
        let sums = std::process::Command::new("sha256sum").args(&files).output().unwrap();
        assert!(sums.status.success());
        String::from_utf8(sums.stdout).unwrap()
    };
    let before = read();
    let mut hold = store.hold().await;
    let carried = hold.carried().await;
    assert_eq!(carried.promises.len(), 1, "once, though it is read twice");
    hold.close().await.unwrap();
    assert_eq!(before, read());
}

#[tokio::test]
async fn rows_of_the_open_file_are_carried_though_another_lies_at_its_path() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.add_evidence(&evidence(1), 5).await.unwrap();
    store.commit(&block(0), &[]).await.unwrap();
    std::fs::remove_file(&store.path).unwrap();
    let carried = store.hold().await.carried().await;
    assert_eq!(carried.evidence.len(), 1);
    assert_eq!(store.hold().await.missing(&carried), []);
    assert_eq!(store.hold().await.missing(&Carried::default()), [(Table::Evidence, 1)]);
}

#[tokio::test]
async fn damage_is_told_from_trouble() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ledger.db");
    std::fs::write(&path, b"this is no database, but long enough to be looked at as one".repeat(20)).unwrap();
    assert!(Store::open(&path, true, key(7)).await.unwrap_err().is_damage());
    let missing = Store::open(&folder.path().join("none.db"), false, key(7)).await.unwrap_err();
    assert!(!missing.is_damage(), "{missing:?}");
    assert!(!StoreError::Io(std::io::Error::other("disk full")).is_damage());
    assert!(StoreError::Shape("height").is_damage());
}

#[tokio::test]
async fn evidence_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = open(&folder).await;
    store.add_evidence(&evidence(1), 1).await.unwrap();
    store.add_evidence(&evidence(1), 2).await.unwrap();
    assert_eq!(store.evidence_count().await.unwrap(), 1);
    assert_eq!(store.check_rows().await.unwrap(), None);
}
