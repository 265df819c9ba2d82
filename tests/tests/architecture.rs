//! The shape of the workspace: who may depend on whom, and what only some crates may touch.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, reason = "test code")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Each crate and what of ours it may depend on. types ← chain ← client ← service ← app ← services/*; types ← db ← app;
/// chain ← consensus ← ledger; tasks, which knows nothing, ← service and db; fhirpath, which knows nothing, ← storage.
const ALLOWED: [(&str, &[&str]); 18] = [
    ("core2", &[]),
    ("hbc-fhirpath", &[]),
    ("hbc-tasks", &[]),
    ("hbc-types", &[]),
    ("hbc-chain", &["hbc-types"]),
    ("hbc-consensus", &["hbc-types", "hbc-chain"]),
    ("hbc-client", &["hbc-tasks", "hbc-types", "hbc-chain"]),
    ("hbc-service", &["hbc-tasks", "hbc-types", "hbc-chain", "hbc-client"]),
    ("hbc-db", &["hbc-tasks", "hbc-types"]),
    ("hbc-app", &["hbc-types", "hbc-chain", "hbc-client", "hbc-service", "hbc-db"]),
    ("hbc-testkit", &["hbc-tasks", "hbc-types", "hbc-chain", "hbc-client"]),
    ("hbc-auth", &["hbc-tasks", "hbc-types", "hbc-chain", "hbc-client", "hbc-service", "hbc-db", "hbc-app"]),
    (
        "hbc-access-policy",
        &["hbc-tasks", "hbc-types", "hbc-chain", "hbc-client", "hbc-service", "hbc-db", "hbc-app"],
    ),
    (
        "hbc-ledger",
        &[
            "hbc-tasks",
            "hbc-types",
            "hbc-chain",
            "hbc-consensus",
            "hbc-client",
            "hbc-service",
            "hbc-db",
            "hbc-app",
        ],
    ),
    (
        "hbc-storage",
        &[
            "hbc-tasks",
            "hbc-fhirpath",
            "hbc-types",
            "hbc-chain",
            "hbc-client",
            "hbc-service",
            "hbc-db",
            "hbc-app",
        ],
    ),
    ("hbc-verify", &["hbc-types", "hbc-chain"]),
    (
        "hbc",
        &[
            "hbc-types",
            "hbc-chain",
            "hbc-client",
            "hbc-service",
            "hbc-db",
            "hbc-app",
            "hbc-auth",
            "hbc-access-policy",
            "hbc-ledger",
            "hbc-storage",
            "hbc-verify",
        ],
    ),
    ("hbc-tests", &["hbc-tasks", "hbc-types", "hbc-chain", "hbc-client", "hbc-testkit"]),
];

/// Libraries that must not spread.
const CONFINED: [(&str, &[&str]); 5] = [
    ("cedar-policy", &["hbc-access-policy"]),
    ("ipfs-api-backend-hyper", &["hbc-storage"]),
    ("jsonwebtoken", &["hbc-client", "hbc-testkit"]),
    ("malachite-core", &["hbc-consensus"]),
    ("malachite-types", &["hbc-consensus"]),
];

/// Crates that run nowhere and wait for nothing: whoever checks the ledger builds these and no more.
const PURE: [&str; 5] = ["hbc-types", "hbc-fhirpath", "hbc-chain", "hbc-consensus", "hbc-verify"];

/// Runtimes, databases and HTTP, by how their names begin.
const MACHINES: [&str; 17] = [
    "actix",
    "async-std",
    "axum",
    "curl",
    "h2",
    "hyper",
    "libsqlite3",
    "mio",
    "native-tls",
    "openssl",
    "postgres",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "sqlx",
    "tokio",
];

struct Manifest {
    dependencies: BTreeSet<String>,
    dev_dependencies: BTreeSet<String>,
}

fn project() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn manifests() -> BTreeMap<String, Manifest> {
    let read = |path: PathBuf| -> toml::Table { std::fs::read_to_string(path).unwrap().parse().unwrap() };
    let workspace = read(project().join("Cargo.toml"));
    let mut folders: Vec<String> = workspace["workspace"]["members"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| m.as_str().unwrap().to_owned())
        .collect();
    folders.push("shared/core2".to_owned());
    let names = |table: &toml::Table, section: &str| -> BTreeSet<String> {
        table
            .get(section)
            .and_then(toml::Value::as_table)
            .map(|t| t.keys().cloned().collect())
            .unwrap_or_default()
    };
    folders
        .iter()
        .map(|folder| {
            let table = read(project().join(folder).join("Cargo.toml"));
            assert!(!table.contains_key("target"), "{folder}: dependencies by target are not looked at here");
            let mut dependencies = names(&table, "dependencies");
            dependencies.extend(names(&table, "build-dependencies"));
            let name = table["package"]["name"].as_str().unwrap().to_owned();
            (name, Manifest { dependencies, dev_dependencies: names(&table, "dev-dependencies") })
        })
        .collect()
}

#[test]
fn crates_depend_only_downward() {
    let allowed: BTreeMap<_, _> = ALLOWED.into_iter().collect();
    let manifests = manifests();
    for (name, manifest) in &manifests {
        let may =
            allowed.get(name.as_str()).unwrap_or_else(|| panic!("`{name}` is not on the list of crates"));
        for dependency in
            manifest.dependencies.iter().filter(|dependency| manifests.contains_key(*dependency))
        {
            assert!(may.contains(&dependency.as_str()), "`{name}` may not depend on `{dependency}`");
        }
        for dependency in
            manifest.dev_dependencies.iter().filter(|dependency| manifests.contains_key(*dependency))
        {
            let fine =
                may.contains(&dependency.as_str()) || dependency == "hbc-testkit" || dependency == name;
            assert!(fine, "the tests of `{name}` may not depend on `{dependency}`");
        }
    }
    assert_eq!(manifests.len(), allowed.len());
}

#[test]
fn heavy_and_old_libraries_stay_where_they_are_needed() {
    for (library, homes) in CONFINED {
        for (name, manifest) in manifests() {
            let uses = manifest.dependencies.contains(library) || manifest.dev_dependencies.contains(library);
            assert!(!uses || homes.contains(&name.as_str()), "`{name}` may not use `{library}`");
        }
    }
}

/// All that a crate is built with, at any depth, each with the features that are on: without what only tests need, and
/// without what other crates of the workspace turn on.
fn built_with(name: &str) -> Vec<(String, String)> {
    let arguments = ["tree", "--offline", "--locked", "--edges", "normal,build", "--prefix", "none"];
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).args(["--format", "{p}|{f}", "--package", name]).current_dir(project());
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let package = |line: &str| {
        let (package, features) = line.split_once('|')?;
        Some((package.split(' ').next()?.to_owned(), features.trim_end_matches(" (*)").to_owned()))
    };
    String::from_utf8(output.stdout).unwrap().lines().filter_map(package).collect()
}

/// Packages in it that are a runtime, a database or HTTP. Malachite names a `tokio` with every feature off: that is a crate
/// without anything in it.
fn machines_in(name: &str) -> BTreeSet<String> {
    let packages = built_with(name);
    assert!(packages.len() > 20, "`{name}` is built with nothing?");
    packages
        .into_iter()
        .filter(|(package, _)| MACHINES.iter().any(|machine| package.starts_with(machine)))
        .filter(|(package, features)| package != "tokio" || !matches!(features.as_str(), "" | "default"))
        .map(|(package, _)| package)
        .collect()
}

#[test]
fn what_checks_the_ledger_is_built_without_runtime_database_and_http() {
    for name in PURE {
        assert_eq!(machines_in(name), BTreeSet::new(), "`{name}`");
    }
    let seen = machines_in("hbc-ledger");
    for machine in ["actix-web", "libsqlite3-sys", "reqwest", "sqlx", "tokio"] {
        assert!(seen.contains(machine), "this test would not see `{machine}`");
    }
}

#[test]
fn every_crate_takes_the_workspace_lints_and_opens_with_what_it_is() {
    for folder in walk(&project(), &["src", "tests"]) {
        let text = std::fs::read_to_string(&folder).unwrap();
        assert!(text.starts_with("//!"), "`{}` does not say what it owns", folder.display());
    }
    for (name, _) in ALLOWED.iter().filter(|(name, _)| *name != "core2") {
        let folder = manifest_folder(name);
        let text = std::fs::read_to_string(folder.join("Cargo.toml")).unwrap();
        // The crate that is nothing but tests has the table without what forbids panics.
        let wanted = if *name == "hbc-tests" {
            "[lints.clippy]\nall = { level = \"deny\""
        } else {
            "[lints]\nworkspace = true"
        };
        assert!(text.contains(wanted), "`{name}` does not take the workspace's lints");
    }
}

/// The services on the skeleton, and the modules that each has: no more, and none less.
const ON_THE_SKELETON: [&str; 3] = ["auth", "access-policy", "storage"];
const MODULES: [&str; 11] =
    ["app", "config", "domain", "error", "flows", "jobs", "ledger", "lib", "routes", "store", "testing"];
/// Longest library file: a service is a list.
const LIBRARY_LINES: usize = 80;

#[test]
fn services_have_the_same_modules_and_their_library_file_is_a_list() {
    for service in ON_THE_SKELETON {
        let source = project().join("services").join(service).join("src");
        let modules: BTreeSet<String> = std::fs::read_dir(&source)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
            .collect();
        assert_eq!(modules, MODULES.map(str::to_owned).into_iter().collect(), "{service}");
        let library = std::fs::read_to_string(source.join("lib.rs")).unwrap();
        let lines = library.lines().count();
        assert!(lines <= LIBRARY_LINES, "{service}: lib.rs has {lines} lines");
        let open: Vec<&str> = library.lines().filter(|line| line.starts_with("pub mod ")).collect();
        assert_eq!(open, ["pub mod testing;"], "{service}: modules are private");
    }
}

fn manifest_folder(name: &str) -> PathBuf {
    let folder = match name {
        "hbc" => "services/hbc".to_owned(),
        "hbc-tests" => "tests".to_owned(),
        _ => {
            let short = name.trim_start_matches("hbc-");
            let shared = format!("shared/{short}");
            if project().join(&shared).exists() { shared } else { format!("services/{short}") }
        }
    };
    project().join(folder)
}

/// All Rust files below the `roots` of every member.
fn walk(project: &Path, roots: &[&str]) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = ALLOWED
        .iter()
        .flat_map(|(name, _)| roots.iter().map(move |root| (name, root)))
        .map(|(name, root)| manifest_folder(name).join(root))
        .filter(|folder| folder.exists())
        .collect();
    assert!(folders.iter().all(|folder| folder.starts_with(project)));
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}
