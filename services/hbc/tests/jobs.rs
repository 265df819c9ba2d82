//! `hbc jobs` shows what a deployment's services owe and begins anew what failed for good, without a service running.

#![allow(clippy::unwrap_used, reason = "test code")]

use std::path::Path;
use std::process::{Command, Output};

use hbc_db::jobs::{self, NewJob};
use hbc_db::{Db, DbError, DbOptions};
use hbc_types::Timestamp;

const NOW: Timestamp = Timestamp::from_ms(1_800_000_000_000);

/// A deployment's folder, as far as `hbc jobs` reads it.
fn deployment(dir: &Path) -> String {
    let url = format!("sqlite:{}", dir.join("auth.db").display());
    std::fs::create_dir(dir.join("config")).unwrap();
    let settings = "dev = true\n[[service]]\nname = \"auth\"\nrole = \"auth\"\nport = 1\n\
                    [[service]]\nname = \"node-1\"\nrole = \"ledger\"\nport = 2\n";
    std::fs::write(dir.join("hbc.toml"), settings).unwrap();
    let config = format!(
        "database_url = \"{url}\"\ngenesis_file = \"g.json\"\nservice_key_file = \"s.key\"\nissuer = \"i\"\n\
         audience = \"a\"\nledger_urls = []\nrows_key_file = \"r.key\"\n"
    );
    std::fs::write(dir.join("config/auth.toml"), config).unwrap();
    url
}

fn hbc(dir: &Path, args: &[&str]) -> Output {
    let (command, rest) = args.split_first().unwrap();
    Command::new(env!("CARGO_BIN_EXE_hbc")).args(["jobs", command]).arg(dir).args(rest).output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Three jobs: one waits, two failed for good.
async fn jobs_of(url: &str) -> Db {
    let db = Db::connect(url, DbOptions::default()).await.unwrap();
    db.migrate(&[]).await.unwrap();
    let made: Result<(), DbError> = db
        .write(|tx| {
            Box::pin(async move {
                for key in ["ses-1", "ses-2", "ses-3"] {
                    let job = NewJob { kind: "push.session", key: key.to_owned(), subject: key.to_owned() };
                    jobs::enqueue(tx, &job, NOW).await?;
                }
                for seq in [1, 2] {
                    let claim = jobs::claim(tx, seq, "t", NOW, NOW).await?.unwrap();
                    jobs::fail(tx, &claim, "forbidden", NOW).await?;
                }
                Ok(())
            })
        })
        .await;
    made.unwrap();
    db
}

#[tokio::test]
async fn failed_jobs_are_listed_and_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let dir = folder.path();
    let url = deployment(dir);
    let db = jobs_of(&url).await;

    let all = hbc(dir, &["list"]);
    assert!(all.status.success(), "{}", text(&all));
    assert_eq!(text(&all).lines().count(), 4, "a heading and three jobs: {}", text(&all));
    let failed = text(&hbc(dir, &["list", "--failed"]));
    assert!(failed.contains("ses-1") && failed.contains("ses-2") && !failed.contains("ses-3"), "{failed}");
    assert!(failed.contains("forbidden") && failed.contains("failed"), "{failed}");

    let one = hbc(dir, &["retry", "auth", "1"]);
    assert!(one.status.success(), "{}", text(&one));
    let again = hbc(dir, &["retry", "auth", "1"]);
    assert!(!again.status.success(), "it has not failed again");
    assert!(text(&hbc(dir, &["list", "--failed"])).contains("ses-2"));
    let rest = hbc(dir, &["retry", "auth", "--all"]);
    assert!(rest.status.success(), "{}", text(&rest));
    assert_eq!(text(&hbc(dir, &["list", "--failed"])).lines().count(), 1);
    assert_eq!(jobs::due(db.reads(), Timestamp::from_ms(i64::MAX), 9).await.unwrap().len(), 3);
    db.close().await;
}

#[tokio::test]
async fn a_missing_database_or_service_is_said_and_nothing_is_made() {
    let folder = tempfile::tempdir().unwrap();
    deployment(folder.path());
    let missing = hbc(folder.path(), &["list"]);
    assert!(!missing.status.success() && text(&missing).contains("auth"), "{}", text(&missing));
    assert!(!folder.path().join("auth.db").exists());
    let ledger = hbc(folder.path(), &["retry", "node-1", "1"]);
    assert!(!ledger.status.success(), "{}", text(&ledger));
}
