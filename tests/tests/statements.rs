//! Every statement of a store ran on both engines: on PostgreSQL, because its log has it, and on SQLite, because no suite
//! has a database of the one without one of the other. `tests/run.sh` calls this after all tests, with the log.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where SQL is kept that runs on both engines.
const STORES: [&str; 5] = [
    "services/auth/src/store",
    "services/access-policy/src/store",
    "services/storage/src/store",
    "shared/app/src",
    "shared/db/src",
];
/// What one engine alone is told, by the words it begins with.
const OF_ONE_ENGINE: [&str; 1] = ["SELECT type || ' ' || name AS name FROM sqlite_master"];
/// How an entry of the log begins, as `postgres.sh` sets it.
const ENTRY: &str = "hbc-log ";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    let rust = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "rs");
    let here = files.into_iter().filter(rust);
    here.chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

/// How a text is compared: without its white space.
fn squeezed(text: &str) -> String {
    text.chars().filter(|c| !c.is_whitespace()).collect()
}

/// The texts in quotation marks of a source, with the function that each stands in. What comes after the first
/// `#[cfg(test)]` is no product.
fn literals(source: &str) -> Vec<(String, String)> {
    let product = source.split("#[cfg(test)]").next().unwrap();
    let (mut found, mut function) = (Vec::new(), String::new());
    let mut rest = product;
    while let Some(place) = rest.find(['"', '/', '\'']).map(|place| (place, rest.as_bytes()[place])) {
        let (before, after) = (&rest[..place.0], &rest[place.0 + 1..]);
        if let Some(named) = before.rsplit("fn ").next().filter(|_| before.contains("fn ")) {
            function = named.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        }
        rest = match place.1 {
            b'/' if after.starts_with('/') => after.split_once('\n').map_or("", |(_comment, rest)| rest),
            b'\'' if after.starts_with("\"'") => &after[2..],
            b'"' => {
                let end =
                    (0..after.len()).find(|end| after.as_bytes()[*end] == b'"' && !escaped(after, *end));
                let end = end.unwrap();
                found.push((function.clone(), after[..end].replace("\\\n", "").replace("\\\"", "\"")));
                &after[end + 1..]
            }
            _ => after,
        };
    }
    found
}

fn escaped(text: &str, place: usize) -> bool {
    text[..place].bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1
}

fn is_statement(text: &str) -> bool {
    ["SELECT ", "INSERT ", "UPDATE ", "DELETE ", "WITH "]
        .iter()
        .any(|verb| text.trim_start().starts_with(verb))
}

/// Every statement that the log's server executed.
fn executed(log: &str) -> BTreeSet<String> {
    let entries = log.split(ENTRY).filter_map(|entry| entry.strip_prefix("LOG:"));
    let statements = entries.filter_map(|entry| {
        let (what, statement) = entry.trim_start().split_once(": ")?;
        (what == "statement" || what.starts_with("execute ")).then(|| squeezed(statement))
    });
    statements.collect()
}

#[test]
fn a_statement_is_found_in_its_source_and_in_a_log() {
    let source = "// \"not\" this\n/// fn other\nfn find() {\n    query(\"SELECT a\n      FROM b\").bind('\"');\n}\n\
                  #[cfg(test)]\nfn test() { query(\"SELECT c\") }";
    assert_eq!(literals(source), [("find".to_owned(), "SELECT a\n      FROM b".to_owned())]);
    let log = "hbc-log LOG:  execute sqlx_s_1: SELECT a\n\t FROM b\nhbc-log LOG:  statement: BEGIN\nhbc-log ERROR:  no";
    assert_eq!(executed(log), ["BEGIN", "SELECTaFROMb"].map(str::to_owned).into());
}

#[test]
#[ignore = "needs PostgreSQL's log of all other tests: tests/run.sh calls it last"]
fn every_statement_of_a_store_ran_on_both_engines() {
    let log = std::env::var_os("HBC_TEST_STATEMENTS").expect("HBC_TEST_STATEMENTS names the log");
    let executed = executed(&String::from_utf8_lossy(&std::fs::read(log).unwrap()));
    let (mut statements, mut missing) = (0, Vec::new());
    for path in STORES.iter().flat_map(|folder| sources(&project().join(folder))) {
        for (function, text) in literals(&std::fs::read_to_string(&path).unwrap()) {
            // What a macro or a format fills in is no whole statement.
            if !is_statement(&text)
                || text.contains('{')
                || OF_ONE_ENGINE.iter().any(|words| text.starts_with(words))
            {
                continue;
            }
            statements += 1;
            if !executed.contains(&squeezed(&text.replace("\\\\", "\\"))) {
                missing.push(format!("{} {function}: {text}", path.display()));
            }
        }
    }
    assert!(statements > 140, "only {statements} statements were found");
    assert!(
        missing.is_empty(),
        "{} of {statements} ran on no PostgreSQL:\n{}",
        missing.len(),
        missing.join("\n")
    );
}
