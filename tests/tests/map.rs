//! `docs/MAP.md` names every crate, folder and file with the sentence that it opens with. It is made from the code: after
//! files came or went, `HBC_WRITE_MAP=1 cargo test --workspace --test map` writes it anew.

#![allow(clippy::unwrap_used, missing_docs, reason = "test code")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Map

Every crate, folder and file with the sentence that it opens with. [ARCHITECTURE.md](ARCHITECTURE.md) tells how they
work together, [CONTRIBUTING.md](../CONTRIBUTING.md) where something new belongs. Made from the code, and compared with
it by `tests/tests/map.rs`.
";

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The workspace's crates by their folders, in the order in which `Cargo.toml` names them.
fn crates() -> Vec<String> {
    let table: toml::Table = std::fs::read_to_string(project().join("Cargo.toml")).unwrap().parse().unwrap();
    let members = table["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| member.as_str().unwrap().to_owned()).collect()
}

/// The first sentence of a file's `//!` lines, with links as plain code.
fn opening(file: &Path) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let lines = text.lines().take_while(|line| line.starts_with("//!"));
    let words: Vec<&str> =
        lines.map(|line| line.trim_start_matches("//!").trim()).take_while(|line| !line.is_empty()).collect();
    let all = words.join(" ").replace("[`", "`").replace("`]", "`").replace('|', "\\|");
    let end = all.find(". ").map_or(all.len(), |end| end + 1);
    assert!(!all.is_empty(), "`{}` does not say what it owns", file.display());
    all[..end].to_owned()
}

/// The modules in a folder: each with its file, and the folder of its own modules where there is one.
fn modules(folder: &Path) -> Vec<(String, PathBuf, Option<PathBuf>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if path.is_dir() && path.join("mod.rs").exists() {
            found.push((name, path.join("mod.rs"), Some(path)));
        } else if path.extension().is_some_and(|extension| extension == "rs")
            && !["lib", "main", "mod", "tests"].contains(&name.as_str())
        {
            let inner = folder.join(&name);
            found.push((name, path, inner.is_dir().then_some(inner)));
        }
    }
    found.sort();
    found
}

fn list(page: &mut String, folder: &Path, depth: usize) {
    for (name, file, inner) in modules(folder) {
        let slash = if inner.is_some() { "/" } else { "" };
        writeln!(page, "{}- `{name}{slash}` {}", "  ".repeat(depth), opening(&file)).unwrap();
        if let Some(inner) = inner.filter(|_| depth == 0) {
            list(page, &inner, depth + 1);
        }
    }
}

/// Cuts lines at 120 characters, as every document's; what goes on is indented below its point.
fn folded(page: &str) -> String {
    let mut out = String::new();
    for line in page.lines() {
        let indent =
            line.len() - line.trim_start().len() + if line.trim_start().starts_with("- ") { 2 } else { 0 };
        let mut width = 0;
        for (at, word) in line.split(' ').enumerate() {
            let length = word.chars().count();
            if at > 0 && width + 1 + length > 120 {
                out.push('\n');
                out.push_str(&" ".repeat(indent));
                width = indent;
            } else if at > 0 {
                out.push(' ');
                width += 1;
            }
            out.push_str(word);
            width += length;
        }
        out.push('\n');
    }
    out
}

#[test]
fn the_map_has_every_file_and_says_what_the_file_says() {
    let mut page = HEAD.to_owned();
    for member in crates() {
        let source = project().join(&member).join("src");
        let root = ["lib.rs", "main.rs"].map(|file| source.join(file)).into_iter().find(|file| file.exists());
        writeln!(page, "\n## `{member}`\n\n{}\n", opening(&root.unwrap())).unwrap();
        list(&mut page, &source, 0);
    }
    let page = folded(&page);
    let file = project().join("docs/MAP.md");
    if std::env::var_os("HBC_WRITE_MAP").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    let committed = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        committed == page,
        "docs/MAP.md is not as the code is: run this test with HBC_WRITE_MAP=1 and commit it"
    );
}
