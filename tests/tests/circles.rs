//! No two modules import each other, straight or through others: whoever reads one can begin below it.
//!
//! Read are the imports and paths of each crate's `src`, as text and without tests. A module and the modules inside it
//! are one thing seen from outside and may know each other: a parent that declares, hands on or uses its children is no
//! circle, nor is a child that uses what its parent defines. Between the children of one parent, all that is below each
//! counted as its own, imports run one way.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    missing_docs,
    reason = "test code"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Parents, by crate, whose children still import each other; this list may only get shorter.
const STILL_OPEN: [(&str, &str); 1] = [("auth", "")];

/// A module's path within its crate; the root is empty.
type Name = Vec<String>;

/// A name that a module takes from somewhere: as what, from where, and whether it hands it on.
struct Import {
    alias: String,
    path: Name,
    handed_on: bool,
}

#[derive(Default)]
struct Module {
    children: BTreeSet<String>,
    imports: Vec<Import>,
    /// Paths in the code itself.
    paths: Vec<Name>,
}

type Modules = BTreeMap<Name, Module>;

/// For a parent: which of its children import which, and one pair of modules that shows it.
type Arrows = BTreeMap<(String, String), (Name, Name)>;

fn crates() -> Vec<PathBuf> {
    let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let text = std::fs::read_to_string(project.join("Cargo.toml")).unwrap();
    let table: toml::Table = text.parse().unwrap();
    let members = table["workspace"]["members"].as_array().unwrap();
    members.iter().map(|member| project.join(member.as_str().unwrap()).join("src")).collect()
}

#[test]
fn modules_import_each_other_in_one_direction() {
    let mut found = Vec::new();
    for source in crates() {
        for root in ["lib.rs", "main.rs"].map(|file| source.join(file)).iter().filter(|root| root.exists()) {
            let folder = source.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned();
            found.extend(
                circles_of(&read(root)).into_iter().map(|(parent, circle)| (folder.clone(), parent, circle)),
            );
        }
    }
    let is_open = |folder: &str, parent: &str| STILL_OPEN.contains(&(folder, parent));
    let circles: Vec<String> = found
        .iter()
        .filter(|(folder, parent, _)| !is_open(folder, parent))
        .map(|(folder, _, circle)| format!("{folder}: {circle}"))
        .collect();
    assert!(circles.is_empty(), "modules that import each other:\n{}", circles.join("\n"));
    let still = |(folder, parent): &&(&str, &str)| found.iter().any(|(f, p, _)| f == folder && p == parent);
    let opened: Vec<_> = STILL_OPEN.iter().filter(|one| !still(one)).collect();
    assert!(opened.is_empty(), "opened by now, so no longer for the list: {opened:?}");
}

#[test]
fn a_circle_is_found_through_reexports_folders_and_paths_in_code() {
    let circles = |files: &[(&str, &str)]| {
        let folder = tempfile::tempdir().unwrap();
        for (file, text) in files {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        circles_of(&read(&folder.path().join("lib.rs"))).len()
    };
    let one_way = [("lib.rs", "mod a; mod b;"), ("a.rs", "use crate::b::B;"), ("b.rs", "pub struct B;")];
    assert_eq!(circles(&one_way), 0);
    let both = [one_way[0], one_way[1], ("b.rs", "fn f() { crate::a::g() }")];
    assert_eq!(circles(&both), 1);
    let in_words = [one_way[0], one_way[1], ("b.rs", "// crate::a::g()\nconst C: &str = \"crate::a\";")];
    assert_eq!(circles(&in_words), 0);
    let in_tests = [one_way[0], one_way[1], ("b.rs", "#[cfg(test)]\nmod tests { use crate::a::*; }")];
    assert_eq!(circles(&in_tests), 0);
    let by_root = [("lib.rs", "mod a; mod b; pub use a::A;"), one_way[1], ("b.rs", "use crate::{A, c};")];
    assert_eq!(circles(&by_root), 1);
    let by_alias = [one_way[0], one_way[1], ("b.rs", "use crate::a as other; fn f() { other::g() }")];
    assert_eq!(circles(&by_alias), 1);
    let folders = [
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod x; mod y;"),
        ("a/x.rs", "use crate::b::B;"),
        ("a/y.rs", "use super::x::X; pub struct Y;"),
        ("b.rs", "use super::a::y::Y; pub struct B;"),
    ];
    assert_eq!(circles(&folders), 1, "x needs b, and b needs the folder that x is in");
    let family = [("lib.rs", "mod a; use a::A; pub struct B;"), ("a.rs", "use super::B; pub struct A;")];
    assert_eq!(circles(&family), 0);
}

/// All modules of a crate, from its root on.
fn read(root: &Path) -> Modules {
    let mut modules = Modules::new();
    let mut files = vec![(Name::new(), root.to_owned(), root.parent().unwrap().to_owned())];
    while let Some((name, file, folder)) = files.pop() {
        let module = parse(&without_tests(&words(&std::fs::read_to_string(&file).unwrap())));
        for child in &module.children {
            let beside = folder.join(format!("{child}.rs"));
            let inside = folder.join(child).join("mod.rs");
            let file = if beside.exists() { beside } else { inside };
            // One that is written out in place has no file; what it says was read with this one.
            if file.exists() {
                files.push((
                    [name.as_slice(), std::slice::from_ref(child)].concat(),
                    file,
                    folder.join(child),
                ));
            }
        }
        modules.insert(name, module);
    }
    modules
}

/// The words and signs of a source, without comments and with literals left empty.
fn words(text: &str) -> Vec<String> {
    let (mut words, mut rest) = (Vec::new(), text);
    while let Some(first) = rest.chars().next() {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        let length = if rest.starts_with("//") {
            rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            rest.find("*/").map_or(rest.len(), |end| end + 2)
        } else if let Some(length) = literal(rest) {
            words.push("\"\"".to_owned());
            length
        } else if is_word(first) {
            let length = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
            words.push(rest[..length].to_owned());
            length
        } else if rest.starts_with("::") {
            words.push("::".to_owned());
            2
        } else {
            if !first.is_whitespace() {
                words.push(first.to_string());
            }
            first.len_utf8()
        };
        rest = &rest[length..];
    }
    words
}

/// How long the text or character literal is that begins here, if one does.
fn literal(text: &str) -> Option<usize> {
    let marks = text.find('"').filter(|quote| {
        let before = text[..*quote].trim_end_matches('#');
        matches!(before, "" | "b" | "c" | "r" | "br" | "cr")
            && (before.contains('r') || before.len() == *quote)
    });
    if let Some(quote) = marks {
        let hashes = text[..quote].matches('#').count();
        let raw = text[..quote].contains('r');
        let end = format!("\"{}", "#".repeat(hashes));
        let mut at = quote + 1;
        while at < text.len() && !text[at..].starts_with(&end) {
            let escaped = !raw && text[at..].starts_with('\\');
            at += text[at..].chars().take(if escaped { 2 } else { 1 }).map(char::len_utf8).sum::<usize>();
        }
        return Some((at + end.len()).min(text.len()));
    }
    let quoted = text.strip_prefix("b'").or_else(|| text.strip_prefix('\''))?;
    let begun = text.len() - quoted.len();
    // A lifetime has no second quote right behind its first letter.
    let first = quoted.chars().next()?;
    let end = if first == '\\' { quoted[2..].find('\'')? + 2 } else { first.len_utf8() };
    quoted[end..].starts_with('\'').then_some(begun + end + 1)
}

/// Leaves out every item that only tests have.
fn without_tests(words: &[String]) -> Vec<String> {
    let (mut kept, mut at) = (Vec::new(), 0);
    while at < words.len() {
        let is_attribute = words[at..].starts_with(&["#".to_owned(), "[".to_owned()]);
        if !is_attribute {
            kept.push(words[at].clone());
            at += 1;
            continue;
        }
        let end = at + closed(&words[at + 1..]) + 1;
        let attribute = &words[at..end];
        let is_cfg = attribute.get(2).is_some_and(|word| word == "cfg");
        let is_negated = attribute.iter().any(|word| word == "not");
        at = if is_cfg && !is_negated && attribute.iter().any(|word| word == "test") {
            end + item(&words[end..])
        } else {
            end
        };
    }
    kept
}

/// How many words there are from an opening bracket to the one that closes it.
fn closed(words: &[String]) -> usize {
    let mut depth = 0_usize;
    for (at, word) in words.iter().enumerate() {
        match word.as_str() {
            "(" | "[" | "{" => depth += 1,
            ")" | "]" | "}" => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            return at + 1;
        }
    }
    words.len()
}

/// How many words the item that begins here has.
fn item(words: &[String]) -> usize {
    let mut at = 0;
    while at < words.len() {
        match words[at].as_str() {
            ";" => return at + 1,
            "{" => return at + closed(&words[at..]),
            "(" | "[" => at += closed(&words[at..]),
            _ => at += 1,
        }
    }
    at
}

fn parse(words: &[String]) -> Module {
    let mut module = Module::default();
    let mut at = 0;
    while at < words.len() {
        let before = at.checked_sub(1).map_or("", |before| words[before].as_str());
        match words[at].as_str() {
            "mod" if at + 1 < words.len() => {
                module.children.insert(words[at + 1].clone());
                at += 2;
            }
            "use" if before != "::" => {
                let end = at + words[at..].iter().position(|word| word == ";").unwrap();
                let handed_on = matches!(before, "pub" | ")");
                tree(&words[at + 1..end], &[], handed_on, &mut module.imports);
                at = end;
            }
            _ if before != "::" && words.get(at + 1).is_some_and(|word| word == "::") => {
                let mut path = vec![words[at].clone()];
                while words.get(at + 1).is_some_and(|word| word == "::") && at + 2 < words.len() {
                    path.push(words[at + 2].clone());
                    at += 2;
                }
                module.paths.push(path);
            }
            _ => at += 1,
        }
    }
    module
}

/// The names in a tree of imports, each with its whole path.
fn tree(words: &[String], before: &[String], handed_on: bool, imports: &mut Vec<Import>) {
    let mut path = before.to_vec();
    let mut at = 0;
    while at < words.len() {
        match words[at].as_str() {
            "::" => at += 1,
            "{" => {
                let inside = &words[at + 1..at + closed(&words[at..]) - 1];
                let (mut begun, mut depth) = (0, 0_usize);
                for (place, word) in inside.iter().enumerate() {
                    match word.as_str() {
                        "{" => depth += 1,
                        "}" => depth -= 1,
                        "," if depth == 0 => {
                            tree(&inside[begun..place], &path, handed_on, imports);
                            begun = place + 1;
                        }
                        _ => {}
                    }
                }
                return tree(&inside[begun..], &path, handed_on, imports);
            }
            "as" => {
                return imports.push(Import { alias: words[at + 1].clone(), path, handed_on });
            }
            "self" if !before.is_empty() => at += 1,
            word => {
                path.push(word.to_owned());
                at += 1;
            }
        }
    }
    if path.len() > before.len() || words.first().is_some_and(|word| word == "self") {
        let alias = path.last().cloned().unwrap_or_default();
        imports.push(Import { alias, path, handed_on });
    }
}

/// The module in which what a path names is defined, and whether the path names that very module; none if it leads out of
/// the crate.
fn find(modules: &Modules, from: &Name, path: &[String], depth: usize) -> Option<(Name, bool)> {
    let (first, mut rest) = path.split_first()?;
    let module = &modules[from];
    let mut at = match first.as_str() {
        "crate" => Name::new(),
        "self" => from.clone(),
        "super" => from[..from.len().checked_sub(1)?].to_vec(),
        child if module.children.contains(child) => [from.as_slice(), &[child.to_owned()]].concat(),
        other => {
            let import =
                module.imports.iter().find(|import| import.alias == other && import.path[0] != other)?;
            let (at, is_module) = find(modules, from, &import.path, depth + 1)?;
            if !is_module {
                return None;
            }
            at
        }
    };
    while let Some((next, after)) = rest.split_first() {
        if next == "super" {
            at.pop();
        } else if modules.get(&at)?.children.contains(next) {
            at.push(next.clone());
        } else {
            let handed = modules[&at].imports.iter().find(|import| import.handed_on && import.alias == *next);
            return match handed {
                Some(import) if depth < 16 => find(modules, &at, &import.path, depth + 1),
                _ => Some((at, false)),
            };
        }
        rest = after;
    }
    modules.contains_key(&at).then_some((at, true))
}

/// For each parent whose children import each other, one circle of them.
fn circles_of(modules: &Modules) -> Vec<(String, String)> {
    let mut parents: BTreeMap<Name, Arrows> = BTreeMap::new();
    for (from, module) in modules {
        let imported = module.imports.iter().map(|import| (&import.path, true));
        for (path, is_import) in imported.chain(module.paths.iter().map(|path| (path, false))) {
            let Some((to, is_module)) = find(modules, from, path, 0) else { continue };
            // A module that is only imported counts where the code names something in it.
            if is_import && is_module {
                continue;
            }
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if let (Some(one), Some(other)) = (from.get(shared), to.get(shared)) {
                let arrows = parents.entry(from[..shared].to_vec()).or_default();
                arrows.entry((one.clone(), other.clone())).or_insert_with(|| (from.clone(), to.clone()));
            }
        }
    }
    let circle = |(parent, arrows): (&Name, &Arrows)| Some((parent.join("::"), circle_in(arrows)?));
    parents.iter().filter_map(circle).collect()
}

/// A circle among the children of one parent: who imports whom in it.
fn circle_in(arrows: &Arrows) -> Option<String> {
    let mut open: BTreeSet<&String> = arrows.keys().flat_map(|(one, other)| [one, other]).collect();
    // Whoever imports none that is left stands on the ground; what stands on nothing else goes with it.
    loop {
        let imports = |child: &String| arrows.keys().any(|(one, other)| one == child && open.contains(other));
        let ground: Vec<&String> = open.iter().copied().filter(|child| !imports(child)).collect();
        if ground.is_empty() {
            break;
        }
        open.retain(|child| !ground.contains(child));
    }
    let mut route: Vec<&String> = vec![open.first()?];
    loop {
        let here = *route.last()?;
        let next = open.iter().copied().find(|next| arrows.contains_key(&(here.clone(), (*next).clone())))?;
        if let Some(begun) = route.iter().position(|seen| *seen == next) {
            let circle: Vec<&String> = route[begun..].iter().copied().chain([next]).collect();
            let steps = circle.windows(2).map(|pair| {
                let (from, to) = &arrows[&(pair[0].clone(), pair[1].clone())];
                format!("{} imports {}", from.join("::"), to.join("::"))
            });
            return Some(steps.collect::<Vec<_>>().join("; "));
        }
        route.push(next);
    }
}
